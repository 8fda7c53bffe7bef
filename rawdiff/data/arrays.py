"""Plain arrays with no code: NumPy, zarr and HDF5 files in and out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from rawdiff.data.array_archives import SUFFIXES, Format, join_arrays, write_arrays
from rawdiff.data.array_files import OPENERS, Stored, open_array, unreadable
from rawdiff.data.dataset import Array, DataInfo, Dataset, Sample
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.files import atomic, write_text


class ArrayDataset(Dataset):
    """Samples [n, C, …] in a file: `data: {name: array, path: data.npz, labels: y}`.

    Labels, scalars, context and weight are each a key of the same file or, if it ends like one,
    another file with that array alone or under its own name. Context and weight have all dims of x,
    or lack only the first and then serve all samples.
    """

    path: Path
    """A .npy, .npz, .zarr, zipped .zarr (.zip), .h5 or .hdf5 file with 1 to 4 dims after the
    channels, NaN where missing. An .npz is read into memory, all others piece by piece."""
    key: str | None = None
    """Name of the array in it (default: the only one, or `x`)."""
    channel_dim: int | None = 1
    """Where channels lie, counted with the samples' dim (1; -1: last); `null`: there are none.
    [dim]"""
    channels: tuple[str, ...] = ()
    """Names of the channels (default: channel0, channel1, …)."""
    units: tuple[str, ...] = ()
    """Unit of each channel, for the names of what is written."""
    labels: str | None = None
    """Array [n] of classes, counted from 0."""
    num_classes: int | None = Field(default=None, ge=1)
    """Number of classes (default: the largest label and one more). [classes]"""
    scalars: str | None = None
    """Array [n] or [n, S] of numbers that the network is told of a sample."""
    scalar_names: tuple[str, ...] = ()
    """Names of the scalars (default: scalar0, scalar1, …)."""
    context: str | None = None
    """Array [n, C', …] of known values on the same grid."""
    weight: str | None = None
    """Array of the weight of each value's error in the loss; it broadcasts to x."""

    @property
    def info(self) -> DataInfo:
        """UserError if a file cannot be read, or if its arrays do not belong together."""
        arrays = self._arrays
        num_channels = arrays.shape[0]
        num_scalars = 0 if arrays.scalars is None else arrays.scalars.shape[1]
        return DataInfo(
            shape=arrays.shape,
            channels=_named("channels", self.channels, num_channels, "channel"),
            units=_named("units", self.units, num_channels, "") if self.units else (),
            class_names=tuple(map(str, range(arrays.num_classes))),
            scalar_names=_named("scalar_names", self.scalar_names, num_scalars, "scalar"),
            num_context_channels=_num_channels(self, arrays.context),
        )

    def __len__(self) -> int:
        return self._arrays.x.shape[0]

    def __getitem__(self, index: int) -> Sample:
        arrays = self._arrays
        if not 0 <= index < arrays.x.shape[0]:
            raise IndexError(f"sample {index} of {arrays.x.shape[0]}")

        def part(stored: Stored | None) -> Array | None:
            return None if stored is None else _channels_first(self, _native(stored[index]))

        try:
            return Sample(
                x=_channels_first(self, _native(arrays.x[index])),
                label=None if arrays.labels is None else int(arrays.labels[index]),
                scalars=None if arrays.scalars is None else arrays.scalars[index],
                context=part(arrays.context),
                weight=part(arrays.weight),
            )
        except Exception as error:
            raise unreadable(self.path, f"sample {index}", error) from error

    @property
    def _arrays(self) -> Arrays:
        path = self.path.expanduser()
        return _open(self, path.stat().st_mtime_ns if path.exists() else 0, os.getpid())


@dataclass(frozen=True)
class Arrays:
    """What a process has opened, checked: x, context and weight are [n, …] as they are stored.

    `shape` is (C, …) of a sample; labels [n] and scalars [n, S] are in memory.
    """

    x: Stored
    shape: tuple[int, ...]
    labels: Array | None
    num_classes: int
    scalars: Array | None
    context: Stored | None
    weight: Stored | None


@lru_cache(maxsize=8)
def _open(data: ArrayDataset, modified: int, process: int) -> Arrays:
    """Once in each process, because an open file must not be shared, and for each new version."""
    x = open_array(data.path, data.key, default="x", setting="data.key")
    shape = _sample_shape(data, x)
    labels, num_classes = _labels(data, x.shape[0])
    return Arrays(
        x=x,
        shape=shape,
        labels=labels,
        num_classes=num_classes,
        scalars=_scalars(data, x.shape[0]),
        context=_part(data, "context", x, shape),
        weight=_part(data, "weight", x, shape),
    )


def _sample_shape(data: ArrayDataset, x: Stored) -> tuple[int, ...]:
    found = f"The array in {data.path} has the shape {list(x.shape)}"
    if not all(x.shape):
        raise UserError(f"{found}: there is nothing in it. Give `data.path` one with samples.")
    dim = data.channel_dim
    if dim is not None and not (0 < dim < x.ndim or -x.ndim < dim < 0):
        raise UserError(
            f"{found}, so `data.channel_dim: {dim}` is none of its dims after the first, which "
            "counts samples. Write `channel_dim: null` if there are no channels."
        )
    shape = _shape(data, x)
    if not 2 <= len(shape) <= 5:
        raise UserError(
            f"{found}, which leaves {len(shape) - 1} dims after samples and channels; there must "
            "be 1 to 4. Write `data.channel_dim: null` if there are no channels, or reshape it."
        )
    return shape


def _stored(data: ArrayDataset, name: str) -> Stored | None:
    """The array behind one of the fields; None if the field is not set."""
    source: str | None = getattr(data, name)
    if source is None:
        return None
    if Path(source).suffix.lower() in OPENERS:
        return open_array(Path(source), None, default=name)
    return open_array(data.path, source, default=name)


def _channels_first(data: ArrayDataset, values: Array) -> Array:
    """One sample as it is stored to [C, …]."""
    if data.channel_dim is None:
        return values[None]
    dim = data.channel_dim - 1 if data.channel_dim > 0 else data.channel_dim
    return np.moveaxis(values, dim, 0)


def _shape(data: ArrayDataset, stored: Stored) -> tuple[int, ...]:
    """(C, …) of a sample of [n, …] as stored."""
    return _channels_first(data, np.broadcast_to(np.int8(0), stored.shape[1:])).shape


def _num_channels(data: ArrayDataset, stored: Stored | None) -> int:
    return 0 if stored is None else _shape(data, stored)[0]


def _labels(data: ArrayDataset, num_samples: int) -> tuple[Array | None, int]:
    """Labels [n] and the number of classes."""
    stored = _stored(data, "labels")
    if stored is None:
        if data.num_classes:
            raise UserError("`data.num_classes` needs labels: write `data.labels` too.")
        return None, 0
    if stored.shape != (num_samples,):
        raise UserError(
            f"`data.labels` has the shape {list(stored.shape)}, but there are {num_samples} "
            f"samples: give one class number for each, [{num_samples}]."
        )
    labels = _native(stored[...])
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UserError(
            f"`data.labels` has dtype {labels.dtype} and the smallest value {labels.min()}, but "
            "classes are whole numbers from 0 on: save them so, `y.astype(numpy.int64)`."
        )
    highest = int(labels.max())
    if highest >= max(num_samples, data.num_classes or 0):
        raise UserError(
            f"`data.labels` goes up to {highest}, but there are only {num_samples} samples. Number "
            "the classes 0, 1, 2, … without gaps."
        )
    if data.num_classes and highest >= data.num_classes:
        raise UserError(
            f"`data.labels` goes up to {highest}, so there are {highest + 1} classes, but "
            f"`data.num_classes` is {data.num_classes}. Raise it, or leave it out."
        )
    return labels, data.num_classes or highest + 1


def _scalars(data: ArrayDataset, num_samples: int) -> Array | None:
    """[n, S]."""
    stored = _stored(data, "scalars")
    if stored is None:
        return None
    if stored.ndim not in (1, 2) or stored.shape[0] != num_samples:
        raise UserError(
            f"`data.scalars` has the shape {list(stored.shape)}, but there are {num_samples} "
            f"samples: it must be [{num_samples}] or [{num_samples}, S]."
        )
    return _native(stored[...]).reshape(num_samples, -1)


def _part(data: ArrayDataset, name: str, x: Stored, shape: tuple[int, ...]) -> Stored | None:
    """Context or weight as [n, …], laid out as x is; one that serves all samples is repeated."""
    part = _stored(data, name)
    if part is None:
        return None
    if part.ndim == x.ndim - 1:
        part = np.broadcast_to(_native(part[...]), (x.shape[0], *part.shape))
    if part.ndim == x.ndim and part.shape[0] == x.shape[0]:
        own = _shape(data, part)
        if name == "context" and own[1:] == shape[1:]:
            return part
        if name == "weight" and all(a in (1, b) for a, b in zip(own, shape, strict=True)):
            return part
    wanted = "all sizes of x but the channels" if name == "context" else "the sizes of x, or 1"
    raise UserError(
        f"`data.{name}` has the shape {list(part.shape)}, but x has {list(x.shape)}: it must have "
        f"as many dims and {wanted}. Only the first, which counts samples, may be left out."
    )


def _named(key: str, given: tuple[str, ...], number: int, prefix: str) -> tuple[str, ...]:
    """The given names, or numbered ones. UserError if there are too many or too few."""
    if given and len(given) != number:
        raise UserError(
            f"`data.{key}` has {len(given)} entries, {list(given)}, but the array has {number}."
        )
    return given or tuple(f"{prefix}{i}" for i in range(number))


def _native(values: Any) -> Array:
    """A copy in memory, with the bytes in the order of this machine."""
    values = np.asarray(values)
    return np.array(values, dtype=values.dtype.newbyteorder("="))


class ArrayWriter(Writer):
    """NumPy archives `samples-000000.npz`, numbered by their first sample, and `samples.json`.

    An archive holds `x` [n, C, …], float32 in data units, NaN where missing, and `labels` [n] and
    `place` [n, A, …] if there are any; the JSON file the names of channels, classes and rows of
    `place`, units and coordinates.
    `data: {name: array, path: samples-000000.npz}` reads it again. Frames [K, n, C, …] of the way
    to them are in `frames-000000.npy`.
    """

    format: Format = "npz"
    """`zarr` or `hdf5`: all samples are in one file instead, `samples.zarr` or `samples.h5`."""

    @property
    def shared(self) -> tuple[str, ...]:
        return () if self.format == "npz" else (f"samples{SUFFIXES[self.format]}",)

    def join(self, parts: Sequence[Path], folder: Path, *, info: DataInfo) -> None:
        for name in self.shared:
            join_arrays([part / name for part in parts], folder / name)

    def write_frames(
        self,
        frames: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        place: Array | None = None,
    ) -> list[Path]:
        path = folder / f"frames-{first_index:06d}.npy"
        with atomic(path) as file:
            np.save(file, np.asarray(frames, dtype=np.float32))
        return [path]

    def write(
        self,
        samples: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        labels: Sequence[int] | None = None,
        place: Array | None = None,
    ) -> list[Path]:
        arrays: dict[str, Any] = {"x": np.asarray(samples, dtype=np.float32)}
        if labels is not None:
            arrays["labels"] = np.asarray(labels, dtype=np.int64)
        if place is not None:
            arrays["place"] = np.asarray(place)
        (name,) = self.shared or (f"samples-{first_index:06d}.npz",)
        archive, description = folder / name, folder / "samples.json"
        write_arrays(archive, arrays)
        names = ("channels", "units", "coordinates", "class_names", "place_names")
        content = {name: getattr(info, name) for name in names}
        write_text(description, json.dumps(content, indent=2) + "\n")
        return [archive, description]
