"""Fields of a plan, read: zarr asynchronously, NetCDF with its own library; neither with dask."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Coroutine, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import netCDF4
import numpy as np
import numpy.typing as npt
import zarr.api.asynchronous

from rawdiff.errors import UserError
from rawdiff_weather.axes import Ints
from rawdiff_weather.blocks import Block, FieldPlan
from rawdiff_weather.layout import Piece
from rawdiff_weather.selection import Channel, Plan

Fields: TypeAlias = npt.NDArray[np.float32]
T = TypeVar("T")

MAX_OPEN_FILES = 64  # NetCDF files of one reader; an open one costs a descriptor and its caches
MAX_IN_FLIGHT = 16  # blocks that wait or decode at once: more only cost memory


class Task(NamedTuple):
    """One block of one stored array."""

    piece: Piece
    block: Block


class Reader:
    """Reads what a plan says. Cheap to pickle; files are opened in the process that reads.

    Open files are never used in a forked process: it opens its own.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._opened: tuple[int, _Files] | None = None
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
        tasks = list(self._tasks(channels, times, members))
        files = self._files()
        asynchronous = [task for task in tasks if task.piece.kind == "zarr"]
        if asynchronous:
            _process(os.getpid()).run(_gather(files, asynchronous, result))
        one_by_one = [task for task in tasks if task.piece.kind == "netcdf"]
        with _process(os.getpid()).netcdf:
            for task in sorted(one_by_one, key=lambda task: task.piece.path):  # each opened once
                _place(task, files.read_netcdf(task), result)
        return result

    def _tasks(self, channels: tuple[Channel, ...], times: Ints, members: Ints) -> Iterator[Task]:
        for name in dict.fromkeys(channel.variable for channel in channels):
            variable = self.plan.variables[name]
            own = [(i, channel) for i, channel in enumerate(channels) if channel.variable == name]
            places = np.zeros((len(times), 2), np.int64)
            if variable.places is not None:
                places = variable.places[times]
            for number in np.unique(places[:, 0]).tolist():
                piece = variable.pieces[number]
                if (name, number) not in self._fields:
                    self._fields[name, number] = FieldPlan.of(self.plan, piece, own)
                here = np.flatnonzero(places[:, 0] == number)
                field = self._fields[name, number]
                for block in field.blocks(places[here, 1], members[here], here):
                    yield Task(piece, block)

    def _files(self) -> _Files:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _Files()
        return self._opened[1]


class _Files:
    """What a reader has opened in one process."""

    def __init__(self) -> None:
        self._groups: dict[str, asyncio.Future[Any]] = {}
        self._arrays: dict[tuple[str, str], asyncio.Future[Any]] = {}
        self._netcdf: OrderedDict[str, netCDF4.Dataset] = OrderedDict()

    async def read_zarr(self, task: Task) -> npt.NDArray[Any]:
        piece = task.piece
        try:
            array = await self._array(piece)
            return np.asarray(await array.getitem(task.block.selection(piece)))
        except Exception as error:
            raise _unreadable(task, error) from error

    async def _array(self, piece: Piece) -> Any:
        """Each store and array is opened once, though many blocks ask for it at once."""
        key = (piece.path, piece.name)
        if key not in self._arrays:
            self._arrays[key] = asyncio.ensure_future(self._open(piece))
        try:
            return await asyncio.shield(self._arrays[key])
        except Exception:  # a store that cannot be reached now may be there later
            self._arrays.pop(key, None)
            self._groups.pop(piece.path, None)
            raise

    async def _open(self, piece: Piece) -> Any:
        if piece.path not in self._groups:
            opening = zarr.api.asynchronous.open_group(piece.path, mode="r")
            self._groups[piece.path] = asyncio.ensure_future(opening)
        group = await asyncio.shield(self._groups[piece.path])
        return await group.getitem(piece.name)

    def read_netcdf(self, task: Task) -> npt.NDArray[Any]:
        piece = task.piece
        try:
            if piece.path not in self._netcdf:
                while len(self._netcdf) >= MAX_OPEN_FILES:
                    self._netcdf.popitem(last=False)[1].close()
                self._netcdf[piece.path] = netCDF4.Dataset(piece.path)
            self._netcdf.move_to_end(piece.path)
            variable = self._netcdf[piece.path].variables[piece.name]
            variable.set_auto_maskandscale(False)  # we unpack, as xarray does, zarr and this alike
            return np.asarray(variable[task.block.selection(piece)])
        except Exception as error:
            raise _unreadable(task, error) from error


class _Process:
    """What must not be shared over a fork: a thread that runs the asynchronous reads, a lock.

    A thread of its own, because the caller may be inside an event loop (notebooks are).
    """

    def __init__(self) -> None:
        self.netcdf = threading.Lock()  # the library must not be called by two threads at once
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="rawdiff-zarr").start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


@lru_cache(maxsize=1)
def _process(number: int) -> _Process:
    return _Process()


async def _gather(files: _Files, tasks: list[Task], result: Fields) -> None:
    places = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def read(task: Task) -> None:
        async with places:
            stored = await files.read_zarr(task)
            await asyncio.to_thread(_place, task, stored, result)

    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(read(task))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _place(task: Task, stored: npt.NDArray[Any], result: Fields) -> None:
    wanted = tuple(s.stop - s.start for s in task.block.selection(task.piece))
    if stored.shape != wanted:
        raise _unreadable(task, ValueError(f"{stored.shape} came instead of {wanted}"))
    task.block.place(stored, task.piece, result)


def _unreadable(task: Task, error: Exception) -> UserError:
    start, stop = task.block.samples.times
    return UserError(
        f"{task.piece.path}: `{task.piece.name}` cannot be read at its times {start} to {stop - 1} "
        f"({type(error).__name__}: {error}). The file is damaged or cut off, or was changed since "
        "it was opened: fetch or write it again."
    )


def _in_range(indices: Sequence[int] | Ints, number: int, what: str) -> Ints:
    found = np.asarray(indices, dtype=np.int64).reshape(-1)
    if len(found) and (found.min() < 0 or found.max() >= number):
        raise IndexError(f"{what} {found.min()} to {found.max()} of {number}")
    return found
