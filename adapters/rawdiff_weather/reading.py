"""Fields of a plan, read from zarr stores, NetCDF files or a packed copy; never with dask."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rawdiff_weather.axes import Fields, Ints
from rawdiff_weather.blocks import FieldPlan
from rawdiff_weather.layout import Kind
from rawdiff_weather.opened import OpenFiles, Task
from rawdiff_weather.selection import Channel, Plan


class Reader:
    """Reads what a plan says. Cheap to pickle; files are opened in the process that reads.

    Open files are never used in a forked process: it opens its own.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._opened: tuple[int, OpenFiles] | None = None
        self._fields: dict[tuple[str, int], FieldPlan] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "_opened": None, "_fields": {}}

    def read(self, times: Sequence[int] | Ints, members: Sequence[int] | Ints = ()) -> Fields:
        """[T, C, latitude, longitude] at indices into the plan's times, NaN where missing.

        `members` [T] are indices into the plan's members (default: the first). Each stored chunk
        is decoded once. UserError if a file is damaged.
        """
        indices = _in_range(times, len(self.plan.times), "time")
        chosen = _in_range(members, max(len(self.plan.members), 1), "member")
        if not len(chosen):
            chosen = np.zeros_like(indices)
        assert len(chosen) == len(indices), "as many members as times"
        where = self.plan.time_indices[indices]
        if self.plan.members:
            chosen = np.array(self.plan.member_indices)[chosen]
        return self._read(self.plan.channels, where, chosen)

    def read_static(self, member: int = 0) -> Fields:
        """The static fields [S, latitude, longitude]."""
        stored = self.plan.member_indices[member] if self.plan.members else 0
        return self._read(self.plan.static, np.zeros(1, np.int64), np.array([stored]))[0]

    def _read(self, channels: tuple[Channel, ...], times: Ints, members: Ints) -> Fields:
        grid = (len(self.plan.rows), len(self.plan.columns))
        result = np.empty((len(times), len(channels), *grid), dtype=np.float32)
        tasks: dict[Kind, list[Task]] = defaultdict(list)
        for task in self._tasks(channels, times, members):
            tasks[task.piece.kind].append(task)
        files = self._files()
        if tasks["zarr"]:
            files.read_zarr(tasks["zarr"], result)
        if tasks["netcdf"]:
            files.read_netcdf(tasks["netcdf"], result)
        if tasks["packed"]:
            files.read_packed(tasks["packed"], result)
        return result

    def _tasks(self, channels: tuple[Channel, ...], times: Ints, members: Ints) -> Iterator[Task]:
        for name in dict.fromkeys(channel.variable for channel in channels):
            variable = self.plan.variables[name]
            places = np.zeros((len(times), 2), np.int64)
            if variable.places is not None:
                places = variable.places[times]
            numbers = places[:, 0]
            for number in sorted(set(numbers.tolist())):
                field = self._field_plan(name, number, channels)
                here = np.flatnonzero(numbers == number)
                for block in field.blocks(places[here, 1], members[here], here):
                    yield Task(field.piece, block)

    def _field_plan(self, name: str, number: int, channels: tuple[Channel, ...]) -> FieldPlan:
        if (name, number) not in self._fields:
            own = [(i, channel) for i, channel in enumerate(channels) if channel.variable == name]
            piece = self.plan.variables[name].pieces[number]
            self._fields[name, number] = FieldPlan.of(self.plan, piece, own)
        return self._fields[name, number]

    def _files(self) -> OpenFiles:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), OpenFiles()
        return self._opened[1]


def _in_range(indices: Sequence[int] | Ints, number: int, what: str) -> Ints:
    found = np.asarray(indices, dtype=np.int64).reshape(-1)
    if len(found) and (found.min() < 0 or found.max() >= number):
        raise IndexError(f"{what} {found.min()} to {found.max()} of {number}")
    return found
