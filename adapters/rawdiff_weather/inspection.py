"""Facts about a plan that a person should see before training: reading cost, empty fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from rawdiff_weather.axes import Ints
from rawdiff_weather.blocks import FieldPlan
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Plan


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


class EmptyField(NamedTuple):
    """`time` is an index into the plan's times."""

    time: int
    channel: str


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


def empty_fields(
    reader: Reader, times: Sequence[int] | Ints, *, at_once: int = 8
) -> Iterator[EmptyField]:
    """Fields that are NaN everywhere, found by reading the given times, a few `at_once`."""
    names = [channel.name for channel in reader.plan.channels]
    indices = np.asarray(times, dtype=np.int64)
    for begin in range(0, len(indices), at_once):
        some = indices[begin : begin + at_once]
        empty = np.isnan(reader.read(some)).all(axis=(2, 3))
        for time, channel in np.argwhere(empty).tolist():
            yield EmptyField(int(some[time]), names[channel])
