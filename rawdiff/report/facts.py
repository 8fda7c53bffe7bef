"""What was trained, on what and where: a run in words and numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch

from rawdiff.assemble import make_network, make_patcher
from rawdiff.report.record import Record
from rawdiff.report.scales import clock, short
from rawdiff.train.cost import Cost, measure_cost
from rawdiff.train.log import training_seconds

MAX_NAMES = 8


class Fact(NamedTuple):
    name: str
    text: str


def sentence(record: Record, cost: Cost) -> str:
    """The run in one line."""
    num, size = record.folder.num_train_samples(), short(cost.num_parameters)
    samples = "samples" if num is None else f"{num:,} samples"
    return (
        f"A {_name(record, 'model')} of {size} parameters, trained on {samples} of "
        f"{_name(record, 'data')}, each {_shape(record)}."
    )


def cost_of(record: Record) -> Cost:
    """Counted without memory for weights."""
    device = torch.device("cpu")
    patcher = make_patcher(record.recipe, record.info, record.statistics, device)
    return measure_cost(make_network(record.recipe, record.info, patcher))


def status(record: Record) -> tuple[str, str]:
    """How far the run came, in a word for its colour and in words."""
    num_steps = record.recipe.train.num_steps
    if record.folder.is_export:
        return "export", "an export: the weights alone, without the log of their training"
    if record.is_finished:
        return "finished", f"finished: {num_steps:,} steps"
    if not record.step:
        return "begun", f"begun: no step of {num_steps:,} in the log yet"
    return "begun", f"step {record.step:,} of {num_steps:,}; the same command continues"


def tiles(record: Record) -> list[Fact]:
    """The few numbers that are looked for first."""
    lines, train = record.lines, record.recipe.train
    if not lines:
        return []
    seen, num = lines[-1]["samples"], record.folder.num_train_samples()
    seconds = training_seconds(lines)
    steps = f"{record.step:,}" if record.is_finished else f"{record.step:,} of {train.num_steps:,}"
    found = [
        Fact("steps", steps),
        Fact("samples seen", short(seen)),
        Fact("time of training", clock(seconds)),
        Fact("samples a second", short(seen / max(seconds, 1e-9))),
    ]
    if num:
        found.insert(2, Fact("passes over the data", f"{seen / num:,.3g}"))
    if losses := [line["loss"] for line in lines if "loss" in line]:
        found.append(Fact("loss, first to last", f"{short(losses[0])} → {short(losses[-1])}"))
    if mfu := [line["mfu"] for line in lines if "mfu" in line]:
        found.append(Fact("of the GPU's peak", f"{sum(mfu) / len(mfu):.0%}"))
    return found


def groups(record: Record, cost: Cost) -> dict[str, list[Fact]]:
    """What was trained, on what, how and where."""
    return {
        "Data": _data(record),
        "Model": _model(record, cost),
        "Training": _training(record),
        "Machine": _machine(record),
    }


def _name(record: Record, section: str) -> str:
    """Of the plug-in that a section of the recipe asks for."""
    return str(record.recipe.plain()[section]["name"])


def _shape(record: Record) -> str:
    return "\u00a0×\u00a0".join(map(str, record.info.shape))  # on one line


def _data(record: Record) -> list[Fact]:
    recipe, info = record.recipe, record.info
    num = record.folder.num_train_samples()
    units = info.units or ("",) * len(info.channels)
    channels = [f"{name} ({unit})" if unit else name for name, unit in _pairs(info.channels, units)]
    holdout = recipe.holdout
    held_out = "nothing" if holdout is None else "another set"
    if holdout is not None and holdout.fraction is not None:
        held_out = f"{holdout.fraction:.0%} of the data"
    moments = record.statistics.x
    spreads = [
        f"{name} {mean:.4g} ± {std:.3g}"
        for name, mean, std in zip(
            info.channels, moments.mean.tolist(), moments.std.tolist(), strict=True
        )
    ]
    facts = [
        Fact("dataset", _name(record, "data")),
        Fact("training samples", "not known" if num is None else f"{num:,}"),
        Fact("held out", held_out),
        Fact("one sample", _shape(record)),
        Fact("channels", _some(channels)),
        Fact("standardized by", f"{recipe.standardization.mode}: {_some(spreads)}"),
    ]
    if info.num_classes:
        facts.append(Fact("classes", f"{info.num_classes}: {_some(info.class_names)}"))
    if info.scalar_names:
        facts.append(Fact("scalars", _some(info.scalar_names)))
    if info.num_context_channels:
        facts.append(Fact("context", f"{info.num_context_channels} channels"))
    return facts


def _model(record: Record, cost: Cost) -> list[Fact]:
    recipe = record.recipe
    sizes = {
        key: value
        for key, value in recipe.model.model_dump(mode="json").items()
        if key in ("size", "width", "depth", "heads", "bottleneck") and value is not None
    }
    flow = recipe.flow.resolved(record.info.shape)
    times = "uniform"
    if flow.time != "uniform":
        times = f"logit-normal, P_mean {flow.P_mean:g}, P_std {flow.P_std:g}"
    patch = getattr(recipe.adapter, "patch_size", None)
    cut = "" if patch is None else f", patches of {' × '.join(map(str, patch))}"
    return [
        Fact("network", ", ".join([_name(record, "model"), *_keys(sizes)])),
        Fact("parameters", f"{cost.num_parameters:,}"),
        Fact("multiply-adds", f"{short(cost.multiply_adds)} a sample and pass"),
        Fact("adapter", f"{_name(record, 'adapter')}{cut}"),
        Fact("prediction, loss", f"{flow.prediction}, {flow.loss}"),
        Fact("times", times),
        Fact("noise scale", f"{flow.noise_std:g}"),
    ]


def _training(record: Record) -> list[Fact]:
    train = record.recipe.train
    return [
        Fact("steps × batch", f"{train.num_steps:,} × {train.batch_size:,}"),
        Fact("optimizer", f"{train.optimizer}, learning rate {train.learning_rate:g}"),
        Fact("schedule", f"{train.schedule}, {train.warmup_samples:,} samples of warm-up"),
        Fact("averages", ", ".join(ema.name for ema in train.ema) or "none"),
        Fact("precision", train.precision),
        Fact("seed", str(record.recipe.seed)),
    ]


def _machine(record: Record) -> list[Fact]:
    found = record.environment
    gpu = f"{found.get('num_gpus')} × {found.get('gpu')}" if found.get("gpu") else "none"
    shown = {
        "GPU": gpu,
        "processor": f"{found.get('cpu')}, {found.get('num_cpus')} cores",
        "rawdiff": f"{found.get('rawdiff')}, commit {str(found.get('commit'))[:10]}",
        "torch": f"{found.get('torch')}, Python {found.get('python')}",
        "command": str(found.get("command")),
    }
    return [Fact(name, text) for name, text in shown.items()] if found else []


def _pairs(names: tuple[str, ...], units: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(names, units, strict=True))


def _keys(sizes: dict[str, object]) -> list[str]:
    return [f"{key} {value}" for key, value in sizes.items()]


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return shown + (f", … ({len(names)})" if len(names) > MAX_NAMES else "")
