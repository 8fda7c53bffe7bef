"""What a recipe would do, without doing it: grid, parameters, memory, steps, time; in seconds.

Here and now, or on GPUs that are not there (`rawdiff.plan.scale`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import Tensor

from rawdiff.assemble import (
    applied,
    info_without_data,
    make_network,
    make_patcher,
    open_data,
    packed_or_raw,
    patch_grid,
)
from rawdiff.conditions import spread
from rawdiff.data.dataset import DataInfo, collate
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Statistics, fixed, measure
from rawdiff.errors import UserError, WrongDataError
from rawdiff.model.network import Network
from rawdiff.parallel.batch import largest_micro_batch, nearest_batch_sizes, share_batch
from rawdiff.parallel.footprint import measure_footprint
from rawdiff.plan.scale import EXPECTED_MFU, Machines, Plan, advise, make_plan
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.train.cost import Cost, matmul_flops, measure_cost, peak_flops
from rawdiff.train.memory import Activations, measure_activations, memory_parts

NUM_SAMPLES_READ = 16
WORTH_A_CURE = 0.05  # share of time that is waited for data
MAX_WORKERS = 16  # that are advised for one process


@dataclass(frozen=True)
class Row:
    """One line of the answer."""

    name: str
    text: str


def check(recipe: Recipe, machines: Machines | None = None) -> list[Row]:
    """Everything that can be known before a run begins; on such machines, or else here.

    Raises UserError for what would stop the run. Data that is not there is no error, so that a
    recipe can be looked at anywhere, unless the recipe alone does not say what samples look like.
    """
    found = _look_at_data(recipe)
    rows, info, statistics = list(found.rows), found.info, found.statistics
    grid = patch_grid(recipe, info)
    statistics = applied(recipe.standardization, statistics)
    patcher = make_patcher(recipe, info, statistics, torch.device("cpu"))
    network = make_network(recipe, info, patcher)
    cost = measure_cost(network)
    extra = f" + {patcher.extra_dim} known" if patcher.extra_dim else ""
    rows += [
        Row("grid", f"{grid} = {grid.num_patches} patches of {patcher.patch_dim} values{extra}"),
        Row("noise", f"{recipe.flow.resolved(info.shape).noise_std:.3g} times the data's spread"),
        Row("parameters", _amount(cost.num_parameters)),
        Row("multiply-adds", f"{_amount(cost.multiply_adds)} a forward pass and sample"),
        *_snapshots(recipe, cost),
        Row("steps", _steps(recipe)),
    ]
    if machines is None:
        speed = _speed(choose_device(recipe.train.device))
        seconds = recipe.train.batch_size * cost.train_flops / speed.flops
        rows += [Row("memory", _memory(recipe, network)), Row("time", _time(recipe, cost, speed))]
        return [*rows, *_loading(recipe, found, recipe.train.batch_size, seconds)]
    return [*rows, *_on_machines(recipe, found, patcher, machines)]


@dataclass(frozen=True)
class _Found:
    """What the data are; `seconds` is the time in which one sample is read, None without data.

    `is_packed` says whether it was read from a packed copy.
    """

    rows: Sequence[Row]
    info: DataInfo
    statistics: Statistics
    seconds: float | None = None
    is_packed: bool = False


def _look_at_data(recipe: Recipe) -> _Found:
    try:
        len(packed_or_raw(recipe.data))
    except WrongDataError:
        raise
    except UserError as error:
        info = info_without_data(recipe)
        text = f"not there, so only the recipe was checked: {error}"
        known = info.num_context_channels
        return _Found(
            [Row("data", text)], info, fixed(0, 1, info.shape, num_context_channels=known)
        )
    data = open_data(recipe)
    info = data.train.info
    positions = spread(NUM_SAMPLES_READ, len(data.train))
    data.train.get_batch(positions[:1])  # files are opened
    start = time.perf_counter()
    samples = data.train.get_batch(positions)
    seconds = (time.perf_counter() - start) / len(samples)
    batch = data.train.render(collate(samples, positions))
    measured = measure([batch])
    held_out = f", {len(data.holdout)} held out" if data.holdout else ", none held out"
    classes = f", {info.num_classes} classes" if info.num_classes else ""
    rows = [
        Row("data", f"{len(data.train)} samples{held_out}{classes}, {1 / seconds:,.0f} a second"),
        Row("sample", f"{' x '.join(map(str, info.shape))} {_dtype(batch.x)}"),
        Row("values", _values(info, measured, batch.x)),
        *(Row(name, text) for name, text in data.train.dataset.findings()),
    ]
    is_packed = data.train.dataset is not recipe.data
    return _Found(rows, info, measured, seconds, is_packed)


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _values(info: DataInfo, measured: Statistics, values: Tensor) -> str:
    """Mean and spread of each channel, and what is wrong with the values that were read."""
    units = info.units or ("",) * len(info.channels)
    parts = [
        f"{name} {mean:.4g} ± {std:.3g} {unit}".strip()
        for name, unit, mean, std in zip(
            info.channels, units, measured.x.mean.tolist(), measured.x.std.tolist(), strict=True
        )
    ]
    shown = ", ".join(parts[:8]) + (f", … ({len(parts)} channels)" if len(parts) > 8 else "")
    if bool(values.isinf().any()):
        raise UserError("The data hold infinite values; mark missing ones as NaN.")
    if missing := float(values.isnan().double().mean()):
        shown += f"; {missing:.1%} missing"
    return f"{shown} (of {len(values)} samples)"


def _memory(recipe: Recipe, network: Network) -> str:
    """Of a single process."""
    shares = share_batch(recipe.train.batch_size, recipe.train.micro_batch_size, 1)
    footprint = measure_footprint(network, recipe.parallel, (1, 1))
    state = memory_parts(network, footprint, recipe.train, Activations(0, 0), shares)
    recomputes = recipe.parallel.activation_checkpoint
    in_float32, in_bfloat16 = (
        measure_activations(network, bfloat16=bfloat16, recomputes=recomputes)(shares.micro_batch)
        for bfloat16 in (False, True)
    )
    return (
        f"{sum(state.values()) / 2**20:,.0f} MiB for weights, gradients, optimizer and EMAs; about "
        f"{in_float32 / 2**20:,.0f} MiB of activations for {shares.micro_batch} samples at a time "
        f"in float32, {in_bfloat16 / 2**20:,.0f} in bfloat16"
    )


def _on_machines(
    recipe: Recipe, found: _Found, patcher: Patcher, machines: Machines
) -> Iterator[Row]:
    info = found.info
    if recipe.train.batch_size % machines.world_size:
        row, recipe = _with_equal_shares(recipe, machines.world_size)
        yield row
    plan = make_plan(recipe, info, patcher, machines)
    yield from _spread(plan)
    yield from _memory_of_each(plan)
    if not plan.fits:
        cures = [
            f"{_gib(other.peak_bytes)} with {text}" for text, other in advise(plan, info, patcher)
        ]
        for text in cures or ["no single key makes it; take more or larger GPUs, fewer averages"]:
            yield Row("  would fit" if cures else "  cure", text)
    yield from _exchange(plan)
    yield from _pace(plan)
    yield from _loading(recipe, found, plan.shares.of_process, plan.seconds.step)


def _with_equal_shares(recipe: Recipe, num_gpus: int) -> tuple[Row, Recipe]:
    """The recipe with the next larger batch that can be shared, and what is said about it."""
    size, at_a_time = recipe.train.batch_size, recipe.train.micro_batch_size
    below, above = nearest_batch_sizes(size, num_gpus)
    keys = {"batch_size": above}
    if at_a_time and above % at_a_time:
        keys["micro_batch_size"] = largest_micro_batch(above // num_gpus, at_a_time)
    shown = " ".join(f"train.{key}={value}" for key, value in keys.items())
    text = f"{size} samples cannot be shared equally by {num_gpus} GPUs, so training would refuse; "
    text += f"planned with {shown}" + (f" ({below} can be shared, too)" if below else "")
    train = recipe.train.model_copy(update=keys)
    return Row("batch", text), recipe.model_copy(update={"train": train})


def _spread(plan: Plan) -> Iterator[Row]:
    footprint, shares, here = plan.footprint, plan.shares, plan.machines.gpus_per_machine
    num_machines = -(-plan.machines.world_size // here)
    yield Row(
        "mesh",
        f"replicate {footprint.replicate} x shard {footprint.shard}, on {num_machines:,} "
        f"{'machine' if num_machines == 1 else 'machines'} of {here} GPUs",
    )
    yield Row(
        "each GPU",
        f"{shares.of_process} samples a step, {shares.micro_batch} at a time: "
        f"{shares.num_micro_batches} {'pass' if shares.num_micro_batches == 1 else 'passes'}",
    )


def _memory_of_each(plan: Plan) -> Iterator[Row]:
    available = plan.machines.memory_gib
    verdict = "fits" if plan.fits else "does not fit, a tenth being kept free"
    yield Row("memory", f"{_gib(plan.peak_bytes)} of {available:g} GiB on each GPU: {verdict}")
    for name, size in plan.parts.items():
        if size:
            yield Row(f"  {name}", _gib(size))
    if plan.whole_bytes:
        text = f"{_gib(plan.whole_bytes)}; most of the above is not there then"
        yield Row("  whole network at start", text)
    if plan.fits and (largest := plan.with_largest_micro_batch()):
        size, of_process = largest.shares.micro_batch, plan.shares.of_process
        share = "the whole share" if size == of_process else f"of a share of {of_process}"
        samples = "1 sample" if size == 1 else f"{size} samples"
        yield Row("largest micro-batch", f"{samples}, {share}: {_gib(largest.peak_bytes)}")


def _exchange(plan: Plan) -> Iterator[Row]:
    footprint, seconds = plan.footprint, plan.seconds
    traffic = footprint.traffic
    num = footprint.num_gatherings(plan.shares.num_micro_batches)
    gathered = num * (traffic.gather_forward + traffic.gather_backward)
    for name, size, duration in (
        ("all-gather", gathered, seconds.gather),
        ("reduce-scatter", traffic.reduce_scatter, seconds.reduce_scatter),
        ("all-reduce", traffic.all_reduce, seconds.all_reduce),
    ):
        if size:
            text = f"{size / 1e9:,.3g} GB sent by each GPU in a step: {_duration(duration)}"
            yield Row(name, text)
    if plan.muon.flops:
        sent = f"{plan.muon.sent_bytes / 1e9:,.3g} GB sent by a GPU" if footprint.shard > 1 else ""
        work = f"{plan.muon.flops / 1e12:,.3g} TFLOP"
        yield Row("Muon", f"{', '.join(filter(None, (work, sent)))}: {_duration(seconds.muon)}")


def _pace(plan: Plan) -> Iterator[Row]:
    recipe, seconds, machines = plan.recipe, plan.seconds, plan.machines
    hidden = "the exchange hides behind it"
    if seconds.not_hidden > 0:
        hidden = f"{_duration(seconds.not_hidden)} of exchange does not hide behind it"
    if machines.world_size == 1:
        hidden = "nothing to exchange"
    computing = f"{_duration(seconds.compute)} of it computing at {plan.mfu:.0%} of "
    speed = recipe.train.batch_size / seconds.step
    total = timedelta(seconds=round(seconds.step * recipe.train.num_steps))
    yield Row(
        "step", f"{_duration(seconds.step)}, {computing}{machines.tflops:g} TFLOP/s; {hidden}"
    )
    if machines.samples_per_second is not None:
        text = f"--mfu {plan.mfu:.3g}, by {machines.samples_per_second:g} samples a second of one"
        yield Row("  measured", f"{text} GPU")
    yield Row("speed", f"{speed:,.0f} samples a second, {speed / machines.world_size:,.1f} a GPU")
    yield Row("time", f"about {total} for {recipe.train.num_steps:,} steps")


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**27 else f"{size / 2**20:,.1f} MiB"


def _duration(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{1000 * seconds:,.3g} ms"


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


def share_of_waiting(reading: float, computing: float, num_workers: int) -> float:
    """Share of its time that a process waits for data: seconds to read and to compute a batch.

    Workers read ahead, each another batch; without them the process itself reads.
    """
    waiting = max(0.0, reading / num_workers - computing) if num_workers else reading
    return waiting / (waiting + computing)


def _loading(recipe: Recipe, found: _Found, num_samples: int, step: float) -> Iterator[Row]:
    """How long each process waits for `num_samples` in each step of so many seconds."""
    if found.seconds is None:
        return
    workers, reading = recipe.train.num_workers, num_samples * found.seconds
    share = share_of_waiting(reading, step, workers)
    by = f"{workers} worker{'s' if workers > 1 else ''}" if workers else "the training process"
    text = (
        f"waits {share:.0%} of the time: {num_samples} samples take {_duration(reading)} to read, "
        f"by {by}, and {_duration(step)} to compute"
    )
    enough = math.ceil(reading / step)
    cures = [f"train.num_workers={enough}"] if workers < enough <= MAX_WORKERS else []
    cures += [] if found.is_packed else ["`rawdiff prepare`"]
    if share >= WORTH_A_CURE and cures:
        text += f"; {' or '.join(cures)} would help"
    yield Row("loading", text)


class _Speed(NamedTuple):
    flops: float
    what: str


def _speed(device: torch.device) -> _Speed:
    if peak := peak_flops(device):
        what = f"one {torch.cuda.get_device_name(device)} at {EXPECTED_MFU:.0%} of its peak"
        return _Speed(peak * EXPECTED_MFU, what)
    return _Speed(
        matmul_flops(device, torch.float32), f"this {device.type} at the speed of a matrix product"
    )


def _time(recipe: Recipe, cost: Cost, speed: _Speed) -> str:
    flops = recipe.train.num_steps * recipe.train.batch_size * cost.train_flops
    duration = timedelta(seconds=round(flops / speed.flops))
    return f"{flops:.3g} operations: about {duration} on {speed.what}"
