"""What to change, in words: every sentence follows from numbers that were measured."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rawdiff.bench.measured import Measured, Tried

WORTH_A_WORD = 0.05  # share of a step, or gain
STALLS = 0.01  # share of the time that checkpoints or the log may take
MARGIN = 1.2  # of reading over computing


def advise(m: Measured) -> list[str]:
    """Sentences, those with most to gain among the first; one that says so where there are none."""
    found = [
        *about_reading(m),
        *about_micro_batch(m),
        *about_variants(m),
        *about_updates(m),
        *about_saving(m),
        *about_log(m),
    ]
    if found:
        return found
    computing = m.share("forward") + m.share("backward")
    return [
        f"Forward and backward pass are {computing:.0%} of a step, at {m.utilization:.0%} of "
        f"{m.chip.source}; nothing that was measured promises {WORTH_A_WORD:.0%} more."
    ]


def about_reading(m: Measured) -> Iterator[str]:
    """Where steps wait for data."""
    if m.reading is None or not m.step.wait or m.step.wait < WORTH_A_WORD * m.step.whole:
        return
    rates, own = m.reading.rates, m.reading.num_workers
    computing = m.sizes.share / m.step.seconds
    workers = f"{own} worker{'' if own == 1 else 's'}" if own else "no workers"
    text = (
        f"Each step waits {duration(m.step.wait)} for data, {m.step.wait / m.step.whole:.0%} of "
        f"the time: the loader, with {workers}, gives {rates[own]:,.0f} samples a second, and "
        f"{'the GPU' if m.chip.is_gpu else 'the CPU'} takes {computing:,.0f}"
    )
    cures = []
    better = [n for n, rate in rates.items() if n > own and rate > (1 + WORTH_A_WORD) * rates[own]]
    if better:
        best = max(better, key=rates.__getitem__)
        cures.append(f"`train.num_workers={best}` gives {rates[best]:,.0f}")
    elif rates[own] < computing and m.reading.num_cpus > own > 0:
        enough = math.ceil(MARGIN * own * computing / rates[own])
        cures.append(f"raise `train.num_workers` to {min(enough, m.reading.num_cpus)}")
    if not m.reading.is_packed:
        cures.append("run `rawdiff prepare` once, which packs the data for reading")
    if not cures:
        cures.append(
            f"the data are packed, and more of the {m.reading.num_cpus} processors gave no more"
        )
    yield f"{text}: {', or '.join(cures)}."


def about_micro_batch(m: Measured) -> Iterator[str]:
    """A cut of the batch that fits where the recipe's own does not, or is faster."""
    sizes = m.sizes
    tried = {one.size: one for one in sizes.tried}
    own = tried.get(sizes.own)
    if own is not None and not own.fits:
        peak = "" if own.peak_bytes is None else f" (it takes {gib(own.peak_bytes)})"
        yield (
            f"{sizes.own} samples at a time do not fit {gib(m.chip.memory_bytes)} with a tenth "
            f"kept free{peak}; {sizes.used} do: `train.micro_batch_size={sizes.used}`."
        )
        return
    fitting = [one for one in sizes.tried if one.fits]
    if own is None or not fitting:
        return
    best = max(fitting, key=_rate)
    own_rate = _rate(own)
    if sizes.used == sizes.own:  # measured twice: of a busy machine's two the better one counts
        own_rate = max(own_rate, sizes.share / m.step.seconds)
    gain = _rate(best) / own_rate
    if gain > 1 + WORTH_A_WORD:
        needs = "" if best.peak_bytes is None else f", with {gib(best.peak_bytes)} at most"
        yield (
            f"{best.size} samples at a time instead of {own.size} give {gain:.2f} times the "
            f"samples a second ({_rate(best):,.1f} instead of {own_rate:,.1f}{needs}): "
            f"`train.micro_batch_size={best.size}`, and the run stays the same."
        )


def about_variants(m: Measured) -> Iterator[str]:
    """Other values of keys that were tried and gave more."""
    for variant in m.variants:
        if variant.speedup is not None and variant.speedup > 1 + WORTH_A_WORD:
            yield f"`{variant.key}` gives {variant.speedup:.2f} times the samples a second."


def about_updates(m: Measured) -> Iterator[str]:
    """Averages and optimizer, which take as long for a small batch as for a large one."""
    parts = m.step.parts
    if (share := m.share("ema")) > WORTH_A_WORD:
        yield (
            f"The averages under `train.ema` take {share:.0%} of a step, {duration(parts['ema'])}: "
            "fewer of them, or a larger `train.batch_size`, which is another run, cost less a "
            "sample."
        )
    if (share := m.share("optimizer")) > WORTH_A_WORD:
        yield (
            f"The optimizer takes {share:.0%} of a step, {duration(parts['optimizer'])} for "
            f"{m.sizes.batch} samples: with twice the `train.batch_size`, which is another run, it "
            f"would be about {share / (2 - share):.0%}."
        )


def about_saving(m: Measured) -> Iterator[str]:
    """Checkpoints that stall training, or come before the last one is written."""
    saving = m.saving
    if saving is None or saving.every_steps is None:
        return
    stalled = saving.stall / (saving.every_seconds + saving.stall)
    if stalled > STALLS:
        enough = math.ceil(saving.stall / STALLS / m.step.whole)
        yield (
            f"A checkpoint stalls training for {duration(saving.stall)}, with "
            f"`checkpoint.every_steps: {saving.every_steps}` {stalled:.0%} of the time: `auto`, or "
            f"{enough:,} steps, keep it under {STALLS:.0%}."
        )
    if saving.seconds > saving.every_seconds:
        enough = math.ceil(saving.seconds / m.step.whole)
        yield (
            f"A checkpoint is on the disk after {duration(saving.seconds)}, but the next one is "
            f"due after {duration(saving.every_seconds)} and waits for it: give "
            f"`checkpoint.every_steps` {enough:,} or more."
        )


def about_log(m: Measured) -> Iterator[str]:
    share = m.log_seconds / (m.log_every * m.step.whole + m.log_seconds)
    if share > STALLS:
        enough = math.ceil(m.log_seconds / STALLS / m.step.whole)
        yield (
            f"A line of the log takes {duration(m.log_seconds)}, with `train.log_every: "
            f"{m.log_every}` {share:.0%} of the time: {enough:,} keeps it under {STALLS:.0%}."
        )


def _rate(tried: Tried) -> float:
    return tried.samples_per_second or 0.0


def duration(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{1000 * seconds:,.3g} ms"


def gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**27 else f"{size / 2**20:,.1f} MiB"
