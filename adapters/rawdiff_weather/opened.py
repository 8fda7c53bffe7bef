"""What a reader has opened in one process: zarr arrays, NetCDF files, packed copies."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import netCDF4
import numpy as np
import numpy.typing as npt
import zarr.api.asynchronous

from rawdiff.errors import UserError
from rawdiff_weather.axes import Fields
from rawdiff_weather.blocks import Block
from rawdiff_weather.chunks import PlainArray
from rawdiff_weather.layout import Piece
from rawdiff_weather.states import map_states

T = TypeVar("T")

MAX_OPEN_FILES = 64  # NetCDF files of one reader; an open one costs a descriptor and its caches
MAX_IN_FLIGHT = 16  # blocks that wait or decode at once: more only cost memory
MAX_THREADS = 8  # decoding: a loader's other processes want cores, too


class Task(NamedTuple):
    """One block of one stored array."""

    piece: Piece
    block: Block


class OpenFiles:
    """Reads tasks into a result [T, C, latitude, longitude]. UserError if a file is damaged."""

    def __init__(self) -> None:
        self._groups: dict[str, asyncio.Future[Any]] = {}
        self._arrays: dict[tuple[str, str], Any] = {}
        self._plain: dict[tuple[str, str], PlainArray | None] = {}
        self._netcdf: OrderedDict[str, netCDF4.Dataset] = OrderedDict()
        self._packed: dict[str, dict[str, Fields]] = {}

    def read_zarr(self, tasks: Sequence[Task], result: Fields) -> None:
        """Chunks on a local disk by threads, those behind a URL as they come."""
        process = this_process()
        if any(_key(task) not in self._plain for task in tasks):
            process.run(_together(self._open, tasks))
        near = [task for task in tasks if (p := self._plain[_key(task)]) and p.folder]
        process.map(lambda task: self._read_chunk(task, result), near)
        if len(near) < len(tasks):
            far = [task for task in tasks if not (p := self._plain[_key(task)]) or not p.folder]
            process.run(_together(lambda task: self._fetch(task, result), far))

    async def _open(self, task: Task) -> None:
        """Each store and array is opened once, though many blocks ask for it at once."""
        path, name = key = _key(task)
        try:
            if path not in self._groups:
                opening = zarr.api.asynchronous.open_group(path, mode="r")
                self._groups[path] = asyncio.ensure_future(opening)
            group = await asyncio.shield(self._groups[path])
            if key not in self._arrays:
                self._arrays[key] = asyncio.ensure_future(group.getitem(name))
            self._plain[key] = PlainArray.of(await asyncio.shield(self._arrays[key]))
        except Exception as error:  # a store that cannot be reached now may be there later
            self._groups.pop(path, None)
            self._arrays.pop(key, None)
            raise unreadable(task, error) from error

    def _read_chunk(self, task: Task, result: Fields) -> None:
        plain = self._plain[_key(task)]
        assert plain is not None
        try:
            stored = plain.load(plain.key(task.block.selection(task.piece)))
            _place_chunk(plain, stored, task, result)
        except Exception as error:
            raise unreadable(task, error) from error

    async def _fetch(self, task: Task, result: Fields) -> None:
        selection = task.block.selection(task.piece)
        plain = self._plain[_key(task)]
        try:
            if plain is None:
                array = await self._arrays[_key(task)]
                values = np.asarray(await array.getitem(selection))
                await asyncio.to_thread(_place, task, values, result)
            else:
                stored = await plain.fetch(plain.key(selection))
                await asyncio.to_thread(_place_chunk, plain, stored, task, result)
        except Exception as error:
            raise unreadable(task, error) from error

    def read_netcdf(self, tasks: Sequence[Task], result: Fields) -> None:
        with this_process().netcdf:
            for task in sorted(tasks, key=lambda task: task.piece.path):  # each opened once
                try:
                    variable = self._netcdf_file(task.piece.path).variables[task.piece.name]
                    variable.set_auto_maskandscale(False)  # we unpack, as xarray does
                    values = np.asarray(variable[task.block.selection(task.piece)])
                    _place(task, values, result)
                except Exception as error:
                    raise unreadable(task, error) from error

    def _netcdf_file(self, path: str) -> netCDF4.Dataset:
        if path not in self._netcdf:
            while len(self._netcdf) >= MAX_OPEN_FILES:
                self._netcdf.popitem(last=False)[1].close()
            self._netcdf[path] = netCDF4.Dataset(path)
        self._netcdf.move_to_end(path)
        return self._netcdf[path]

    def read_packed(self, tasks: Sequence[Task], result: Fields) -> None:
        for path in {task.piece.path for task in tasks} - self._packed.keys():
            self._packed[path] = map_states(path)
        this_process().map(lambda task: self._copy(task, result), tasks)

    def _copy(self, task: Task, result: Fields) -> None:
        states = self._packed[task.piece.path][task.piece.name]
        task.block.place(states[task.block.selection(task.piece)], task.piece, result)


class _Process:
    """What must not be shared over a fork: threads, and a lock.

    The asynchronous reads have a thread of their own, because the caller may be inside an event
    loop (notebooks are).
    """

    def __init__(self) -> None:
        self.netcdf = threading.Lock()  # the library must not be called by two threads at once
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="rawdiff-zarr").start()
        self._num_threads = min(MAX_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._num_threads)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def map(self, work: Callable[[Task], None], tasks: Sequence[Task]) -> None:
        """By this thread, and by others as far as they find time."""
        left = list(reversed(tasks))

        def do() -> None:
            while True:
                try:
                    task = left.pop()
                except IndexError:  # another thread was faster
                    return
                work(task)

        num_others = min(self._num_threads, len(tasks)) - 1
        others = [self._pool.submit(do) for _ in range(num_others)]
        try:
            do()
        finally:
            left.clear()
            begun = [other for other in others if not other.cancel()]
            wait(begun)  # none may write into a result that was given up
        for other in begun:
            other.result()


def this_process() -> _Process:
    return _process(os.getpid())


@lru_cache(maxsize=1)
def _process(number: int) -> _Process:
    return _Process()


async def _together(
    work: Callable[[Task], Coroutine[Any, Any, None]], tasks: Sequence[Task]
) -> None:
    places = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def one(task: Task) -> None:
        async with places:
            await work(task)

    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(one(task))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _key(task: Task) -> tuple[str, str]:
    return task.piece.path, task.piece.name


def _place_chunk(plain: PlainArray, stored: bytes | None, task: Task, result: Fields) -> None:
    """Decode a chunk in the result itself, where it lies there as it is stored."""
    target = task.block.target(task.piece, result)
    if target is None or plain.dtype != target.dtype:
        selection = task.block.selection(task.piece)
        _place(task, plain.decode(stored, selection), result)
    else:
        plain.decode_into(stored, target)
        task.piece.packing.mark_missing(target)


def _place(task: Task, stored: npt.NDArray[Any], result: Fields) -> None:
    wanted = tuple(s.stop - s.start for s in task.block.selection(task.piece))
    if stored.shape != wanted:
        raise ValueError(f"{stored.shape} came instead of {wanted}")
    task.block.place(stored, task.piece, result)


def unreadable(task: Task, error: Exception) -> UserError:
    start, stop = task.block.samples.times
    return UserError(
        f"{task.piece.path}: `{task.piece.name}` cannot be read at its times {start} to {stop - 1} "
        f"({type(error).__name__}: {error}). The file is damaged or cut off, or was changed since "
        "it was opened: fetch or write it again."
    )
