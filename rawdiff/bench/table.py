"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from rich.table import Table

from rawdiff.bench.advice import advise, duration, gib
from rawdiff.bench.measured import Measured
from rawdiff.bench.steps import STEP
from rawdiff.saved.environment import command_line, describe_environment

TEXTS = {
    "data": "waiting for data",
    "weights": "weights of values, where some are missing",
    "copy": "copy to the device",
    "augment": "augmentation",
    "render": "rendering",
    "patches": "standardizing, cutting into patches",
    "noise": "noise and times",
    "forward": "forward pass and loss",
    "backward": "backward pass",
    "clip": "norm of gradients, clipping",
    "guard": "guard",
    "optimizer": "optimizer",
    "ema": "averages of the weights",
    "metrics": "sums for the log",
    STEP: "rest",
}


def parts_table(m: Measured) -> Table:
    """Parts of a step, in the order in which they come."""
    table = Table("part", "of a step", "time", box=None, pad_edge=False)
    total = sum(m.step.parts.values())
    for name, text in TEXTS.items():
        if (seconds := m.step.parts.get(name)) is not None:
            table.add_row(text, f"{seconds / total:.1%}", duration(seconds))
    return table


def facts_table(m: Measured) -> Table:
    """How fast it is in all."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in facts(m):
        table.add_row(name, text)
    return table


def facts(m: Measured) -> Iterator[tuple[str, str]]:
    sizes, step = m.sizes, m.step
    together = f" on each of {m.num_processes} processes" if m.num_processes > 1 else ""
    passes = f"{sizes.num_micro_batches} x {sizes.used} samples{together}"
    if sizes.used != sizes.own:
        passes += f" (the recipe's own {sizes.own} at a time could not be measured)"
    yield "machine", f"{m.chip.name}, {gib(m.chip.memory_bytes)}; {m.precision}"
    yield "step", f"{duration(step.whole)} for {passes}{_timed(m)}"
    yield "speed", f"{m.samples_per_second:,.1f} samples a second"
    total = timedelta(seconds=round(m.num_steps * step.whole))
    yield "run", f"{total} for {m.num_steps:,} steps, without checkpoints and pictures"
    yield (
        "utilization",
        f"{m.utilization:.1%}: {m.flops / 1e12:,.3g} of {m.chip.peak_flops / 1e12:,.3g} TFLOP/s, "
        f"{m.chip.source}",
    )
    yield "memory", f"{gib(m.peak_bytes)} at most"
    yield "micro-batch", _tried(m)
    yield "data", _reading(m)
    yield "checkpoint", _saving(m)
    log_share = m.log_seconds / (m.log_every * step.whole)
    yield "log", f"{duration(m.log_seconds)} a line, one every {m.log_every} steps: {log_share:.2%}"
    for variant in m.variants:
        told = f"cannot run: {variant.problem}"
        if variant.speedup is not None:
            told = f"{variant.speedup:.2f} times the samples a second"
        yield variant.key, told


def _timed(m: Measured) -> str:
    if m.sizes.num_timed == m.sizes.num_micro_batches:
        return ""
    return f" ({m.sizes.num_timed} of {m.sizes.num_micro_batches} timed)"


def _tried(m: Measured) -> str:
    if m.num_processes > 1:
        return "several processes try no other than their own"
    texts = []
    for one in m.sizes.tried:
        text = "does not fit" if not one.fits else f"{one.samples_per_second:,.1f}"
        memory = "" if one.peak_bytes is None else f" ({gib(one.peak_bytes)})"
        texts.append(f"{one.size}: {text}{memory}")
    return f"samples a second with {'; '.join(texts)}"


def _reading(m: Measured) -> str:
    if m.reading is None:
        return "random samples in memory; reading, augmentation and rendering were not measured"
    rates = [
        f"{rate:,.0f} with {number or 'no'} worker{'' if number == 1 else 's'}"
        for number, rate in sorted(m.reading.rates.items())
    ]
    wait = m.step.wait or 0.0
    share = wait / m.step.whole
    alone = f"the loader alone gives {'; '.join(rates)} samples a second"
    return f"{alone}; a step waits {duration(wait)}, {share:.1%} of the time"


def _saving(m: Measured) -> str:
    saving = m.saving
    if saving is None:
        return m.no_saving
    stalled = saving.stall / (saving.every_seconds + saving.stall)
    every = "`auto`" if saving.every_steps is None else f"{saving.every_steps:,} steps"
    return (
        f"{saving.num_bytes / 1e6:,.3g} MB, on the disk after {duration(saving.seconds)}; stalls "
        f"training for {duration(saving.stall)}, every {every}: {stalled:.2%}"
    )


def as_json(m: Measured) -> str:
    """All numbers, with what they were measured on."""
    content: dict[str, Any] = {
        "command": command_line(),
        "environment": describe_environment(),
        "samples_per_second": m.samples_per_second,
        "step_seconds": m.step.whole,
        "model_flops": m.flops,
        "utilization": m.utilization,
        "advice": advise(m),
        "measured": dataclasses.asdict(m),
    }
    return json.dumps(content, indent=1) + "\n"
