"""What a recipe would do, without doing it: grid, parameters, memory, steps, time; in seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch

from rawdiff.assemble import make_network, make_patcher, open_data, packed_or_raw, patch_grid
from rawdiff.conditions import spread
from rawdiff.data.dataset import DataInfo, Sample, collate
from rawdiff.data.statistics import Statistics, fixed, measure
from rawdiff.errors import UserError
from rawdiff.model.network import Network
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.train.cost import Cost, activation_bytes, measure_cost, peak_flops, state_bytes

NUM_SAMPLES_READ = 16
EXPECTED_MFU = 0.4


@dataclass(frozen=True)
class Row:
    """One line of the answer."""

    name: str
    text: str


def check(recipe: Recipe) -> list[Row]:
    """Everything that can be known before a run begins.

    Raises UserError for what would stop the run. Data that is not there is no error, so that a
    recipe can be looked at anywhere, unless the recipe alone does not say what samples look like.
    """
    rows, info, statistics = _look_at_data(recipe)
    grid = patch_grid(recipe, info)
    patcher = make_patcher(recipe, info, statistics, torch.device("cpu"))
    network = make_network(recipe, info, patcher)
    cost = measure_cost(network)
    extra = f" + {patcher.extra_dim} known" if patcher.extra_dim else ""
    rows += [
        Row("grid", f"{grid} = {grid.num_patches} patches of {patcher.patch_dim} values{extra}"),
        Row("noise", f"{recipe.flow.resolved(info.shape).noise_std:.3g} times the data's spread"),
        Row("parameters", _amount(cost.num_parameters)),
        Row("multiply-adds", f"{_amount(cost.multiply_adds)} a forward pass and sample"),
        Row("memory", _memory(recipe, network, cost)),
        *_snapshots(recipe, cost),
        Row("steps", _steps(recipe)),
        Row("time", _time(recipe, cost)),
    ]
    return rows


def _look_at_data(recipe: Recipe) -> tuple[list[Row], DataInfo, Statistics]:
    try:
        len(packed_or_raw(recipe.data))
    except UserError as error:
        info = recipe.data.info  # raises in turn if the recipe alone does not say
        text = f"not there, so only the recipe was checked: {error}"
        return [Row("data", text)], info, fixed(0.0, 1.0, info.shape)
    data = open_data(recipe)
    info = data.train.info
    positions = spread(NUM_SAMPLES_READ, len(data.train))
    start = time.perf_counter()
    samples = data.train.get_batch(positions)
    seconds = (time.perf_counter() - start) / len(samples)
    measured = measure([collate(samples, positions)])
    held_out = f", {len(data.holdout)} held out" if data.holdout else ", none held out"
    classes = f", {info.num_classes} classes" if info.num_classes else ""
    rows = [
        Row("data", f"{len(data.train)} samples{held_out}{classes}, {1 / seconds:,.0f} a second"),
        Row("sample", f"{' x '.join(map(str, info.shape))} {samples[0].x.dtype}"),
        Row("values", _values(info, measured, samples)),
    ]
    return rows, info, measured


def _values(info: DataInfo, measured: Statistics, samples: list[Sample]) -> str:
    """Mean and spread of each channel, and what is wrong with the values that were read."""
    units = info.units or ("",) * len(info.channels)
    parts = [
        f"{name} {mean:.4g} ± {std:.3g} {unit}".strip()
        for name, unit, mean, std in zip(
            info.channels, units, measured.x.mean.tolist(), measured.x.std.tolist(), strict=True
        )
    ]
    shown = ", ".join(parts[:8]) + (f", … ({len(parts)} channels)" if len(parts) > 8 else "")
    values = np.stack([sample.x for sample in samples])
    if values.dtype.kind == "f":
        if np.isinf(values).any():
            raise UserError("The data hold infinite values; mark missing ones as NaN.")
        if missing := float(np.isnan(values).mean()):
            shown += f"; {missing:.1%} missing"
    return f"{shown} (of {len(samples)} samples)"


def _memory(recipe: Recipe, network: Network, cost: Cost) -> str:
    state = state_bytes(cost.num_parameters, recipe.train)
    size = recipe.train.micro_batch_size or recipe.train.batch_size
    held = activation_bytes(network) * size
    return (
        f"{state / 2**20:,.0f} MiB for weights, gradients, optimizer and EMAs; about "
        f"{held / 2**20:,.0f} MiB of activations for {size} samples at a time in float32, "
        "half that in bfloat16"
    )


def _snapshots(recipe: Recipe, cost: Cost) -> list[Row]:
    """What the snapshots of the power averages take on the disk."""
    every = recipe.checkpoint.ema_every_steps
    if every is None:
        return []
    num_snapshots = -(-recipe.train.num_steps // every)
    num_widths = sum(ema.power is not None for ema in recipe.train.ema)
    size = 4 * cost.num_parameters * num_widths * num_snapshots
    text = f"{num_snapshots} of {num_widths} power averages: {size / 2**30:,.1f} GiB on the disk"
    return [Row("snapshots", text)]


def _amount(number: float) -> str:
    """In millions, or in billions where there are many."""
    return f"{number / 1e9:,.2f} G" if number >= 1e10 else f"{number / 1e6:,.1f} M"


def _steps(recipe: Recipe) -> str:
    train = recipe.train
    samples = train.num_steps * train.batch_size
    return f"{train.num_steps:,} of {train.batch_size} samples, {samples:,} samples in all"


def _time(recipe: Recipe, cost: Cost) -> str:
    device = choose_device(recipe.train.device)
    flops = recipe.train.num_steps * recipe.train.batch_size * cost.train_flops
    peak = peak_flops(device)
    if peak:
        what = f"one {torch.cuda.get_device_name(device)} at {EXPECTED_MFU:.0%} of its peak"
        speed = peak * EXPECTED_MFU
    else:
        what, speed = f"this {device.type} at the speed of a matrix product", _matmul_flops(device)
    return f"{flops:.3g} operations: about {timedelta(seconds=round(flops / speed))} on {what}"


def _matmul_flops(device: torch.device, size: int = 1024) -> float:
    """Operations a second of a float32 matrix product, measured."""
    a = torch.ones(size, size, device=device)
    a @ a
    start = time.perf_counter()
    for _ in range(3):
        float((a @ a)[0, 0])
    return 3 * 2 * size**3 / (time.perf_counter() - start)
