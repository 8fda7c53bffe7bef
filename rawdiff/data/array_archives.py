"""Arrays of samples in one file; those of the parts of a set put together piece by piece."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np
import zarr

from rawdiff.data.dataset import Array
from rawdiff.files import atomic

Format: TypeAlias = Literal["npz", "zarr", "hdf5"]
SUFFIXES: dict[Format, str] = {"npz": ".npz", "zarr": ".zarr", "hdf5": ".h5"}


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Arrays [n, …] by name in one file, of the kind that its suffix says; it appears whole."""
    if path.suffix == SUFFIXES["npz"]:
        with atomic(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as partial, _opened(partial, "w") as group:
        for name, array in arrays.items():
            _create(group, name, array, len(array))[...] = array


def join_arrays(parts: Sequence[Path], path: Path) -> None:
    """One zarr store or HDF5 file of several, one after the other; it replaces what is there.

    A chunk holds as many samples as the first part. As much space as all parts have is needed.
    """
    lengths = []
    for part in parts:
        with _opened(part, "r") as own:
            lengths.append(own["x"].shape[0])
    with _replacing(path) as partial, _opened(partial, "w") as whole:
        start = 0
        for part, length in zip(parts, lengths, strict=True):
            with _opened(part, "r") as own:
                for name in own:
                    values = own[name][...]
                    if not start:
                        _create(whole, name, values, sum(lengths))
                    whole[name][start : start + length] = values
            start += length


def _create(group: Any, name: str, like: Array, length: int) -> Any:
    """A new array in a store of either kind: as `like` [n, …], but so long; n to a chunk."""
    shape = (length, *like.shape[1:])
    create = group.create_dataset if isinstance(group, h5py.File) else group.create_array
    return create(name, shape=shape, dtype=like.dtype, chunks=like.shape)


@contextmanager
def _opened(path: Path, mode: Literal["r", "w"]) -> Iterator[Any]:
    if not path.name.removesuffix(".partial").endswith(SUFFIXES["hdf5"]):
        yield zarr.open_group(path, mode=mode)
    elif mode == "r":
        with h5py.File(path, mode) as file:
            yield file
    else:
        with _Lasting(path, "w+") as lasting:
            with h5py.File(lasting, mode) as file:
                yield file
            if lasting.failure is not None:
                raise lasting.failure


class _Lasting(io.FileIO):
    """A file for HDF5, which cannot close one that fails (a full disk) without crashing Python.

    So writing seems to succeed; `failure` is the first error, to be raised when all is closed.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.failure is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name beside it, for what takes its place when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        yield partial
        _remove(path)
        partial.rename(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
