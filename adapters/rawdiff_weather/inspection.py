"""What a person should know of fields before training: gaps, missing values, reading cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from rawdiff.data.dataset import Finding
from rawdiff_weather.blocks import FieldPlan
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Plan

SHOWN = 3  # of each kind of finding
TOO_MUCH = 1.5  # times as much decoded as used


class Cost(NamedTuple):
    """What one time of one variable costs: bytes decoded, and those of them that are used."""

    variable: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    decoded: int
    used: int

    @property
    def times_too_much(self) -> float:
        return self.decoded / self.used


class Field(NamedTuple):
    """`time` is an index into the plan's times."""

    time: int
    channel: str


def findings(reader: Reader, seconds: float = 2.0) -> Iterator[Finding]:
    """What is worth saying of a plan; fields are read for as many `seconds`."""
    yield _times(reader.plan)
    yield from _missing_values(reader, seconds)
    costs = [cost for cost in reading_costs(reader.plan) if cost.times_too_much >= TOO_MUCH]
    if costs:
        worst = max(costs, key=lambda cost: cost.times_too_much)
        total = sum(cost.decoded for cost in costs) / sum(cost.used for cost in costs)
        others = f" ({len(costs)} variables, {total:.3g} in all)" if len(costs) > 1 else ""
        yield Finding(
            "chunks",
            f"a state alone is read {worst.times_too_much:.3g} times too much of "
            f"`{worst.variable}`{others}: its chunks are {worst.chunks} of {worst.shape}; "
            "`rawdiff prepare` reads each once, and packs states for training",
        )


def _times(plan: Plan) -> Finding:
    times, gaps = plan.times, plan.times.gaps()
    text = f"{len(times):,} from {times.text(0)} to {times.text(len(times) - 1)}"
    text += f", {times.step} apart" if times.step else ""
    if not gaps:
        return Finding("times", f"{text}, no gap")
    listed = [
        f"between {gap.before} and {gap.after} ({gap.missing or 'a part of one'} missing)"
        for gap in gaps[:SHOWN]
    ]
    more = f" and {len(gaps) - SHOWN} more" if len(gaps) > SHOWN else ""
    number = f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''}"
    return Finding("times", f"{text}; {number}: {', '.join(listed)}{more}")


def _missing_values(reader: Reader, seconds: float) -> Iterator[Finding]:
    """By reading times all over the plan, in an order of which each part is spread evenly."""
    plan, end = reader.plan, time.monotonic() + seconds
    order = np.random.default_rng(0).permutation(len(plan.times))
    counts = np.zeros(len(plan.channels))
    empty: list[Field] = []
    infinite: list[Field] = []
    always, ever, num_read = np.array(True), np.array(False), 0
    for i in order.tolist():
        state = reader.read([i])[0]
        missing = np.isnan(state)
        endless = np.flatnonzero(np.isinf(state).any(axis=(1, 2))).tolist()
        infinite += [Field(i, plan.channels[c].name) for c in endless]
        always, ever, num_read = always & missing, ever | missing, num_read + 1
        counts += missing.mean(axis=(1, 2))
        nothing = np.flatnonzero(missing.all(axis=(1, 2))).tolist()
        empty += [Field(i, plan.channels[c].name) for c in nothing]
        if time.monotonic() > end:
            break
    seen = "all times" if num_read == len(order) else f"{num_read:,} of {len(order):,} times"
    seen += f" of member {plan.members[0]}" if len(plan.members) > 1 else ""
    shares = dict(zip((c.name for c in plan.channels), counts / num_read, strict=True))
    holes = [f"{name} {100 * share:.3g} %" for name, share in shares.items() if share > 0]
    if holes:
        where = "always at the same places" if (always == ever).all() else "at changing places"
        text = f"{', '.join(holes[:8])}{', …' if len(holes) > 8 else ''}, {where} ({seen} read)"
        yield Finding("missing", text)
    else:
        yield Finding("missing", f"nothing ({seen} read)")
    for name, fields in (("empty fields", empty), ("infinite values", infinite)):
        if fields:
            listed = [f"{one.channel} at {plan.times.text(one.time)}" for one in sorted(fields)]
            more = f" and {len(fields) - SHOWN} more" if len(fields) > SHOWN else ""
            yield Finding(name, f"{', '.join(listed[:SHOWN])}{more} ({seen} read)")


def reading_costs(plan: Plan) -> list[Cost]:
    """For each variable that changes with time, by the chunks of its first file."""
    costs: list[Cost] = []
    first = np.zeros(1, np.int64)
    for name in dict.fromkeys(channel.variable for channel in plan.channels):
        piece = plan.variables[name].pieces[0]
        channels = [(i, c) for i, c in enumerate(plan.channels) if c.variable == name]
        num_chunks = len(list(FieldPlan.of(plan, piece, channels).blocks(first, first, first)))
        size = piece.packing.stored.itemsize
        used = len(channels) * len(plan.rows) * len(plan.columns) * size
        costs.append(
            Cost(name, piece.shape, piece.chunks, num_chunks * prod(piece.chunks) * size, used)
        )
    return costs
