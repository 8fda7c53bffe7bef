"""Samples as a CF zarr store, with the names, units and coordinates of the data."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from PIL import Image

from rawdiff import picture
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff_weather.output import Content, Coordinate, FieldStore

FILE = "samples.zarr"


class FieldWriter(Writer):
    """One zarr store, `samples.zarr`, with the dim `sample` before those of the fields.

    Where one sample has several times, they stand along the dim `step`.
    """

    num_drawn = 16

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
        store = FieldStore(
            folder / FILE, _content(info, range(first_index, first_index + len(samples)))
        )
        store.create("Samples", {})
        store.write((slice(0, len(samples)),), _by_channel(samples, info))
        store.finish()
        return [store.path]

    @property
    def shared(self) -> tuple[str, ...]:
        return (FILE,)

    def join(self, parts: Sequence[Path], folder: Path, *, info: DataInfo) -> None:
        """One store, which appears whole; it needs as much space as those of the parts."""
        numbers = [_numbers(part / FILE) for part in parts]
        partial = folder / f".{FILE}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        whole = FieldStore(partial, _content(info, [i for own in numbers for i in own]))
        whole.create("Samples", {})
        done = 0
        for part, own in zip(parts, numbers, strict=True):
            fields = FieldStore(part / FILE, _content(info, own)).read((slice(0, len(own)),))
            whole.write((slice(done, done + len(own)),), fields)
            done += len(own)
        whole.finish()
        if (folder / FILE).exists():
            shutil.rmtree(folder / FILE)
        partial.rename(folder / FILE)

    def draw(
        self,
        samples: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> Image.Image:
        """Of samples with further axes the first time, at all levels."""
        fields, flat = _flat(samples, info)
        return super().draw(fields, info=flat, labels=labels, columns=columns)

    def draw_stages(
        self,
        frames: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> list[Image.Image]:
        last, flat = _flat(frames[-1], info)
        fields = [_flat(samples, info)[0] for samples in frames]
        return [
            picture.draw_samples(samples, flat, labels, columns=columns, like=last)
            for samples in fields
        ]


def _flat(samples: Array, info: DataInfo) -> tuple[Array, DataInfo]:
    """The first time of samples with several, [n, C, H, W], and what it is."""
    fields = _by_channel(samples, info)
    first = fields[:, 0] if "time" in info.coordinates else fields
    channels, units = zip(*_channels(info), strict=True)
    return first, replace(info, shape=first.shape[1:], channels=channels, units=units)


def _numbers(store: Path) -> list[int]:
    """Those of the samples in a store."""
    group: Any = zarr.open_group(store, mode="r")
    found: list[int] = group["sample"][...].tolist()
    return found


def _channels(info: DataInfo) -> list[tuple[str, str]]:
    """Name and unit of each field [H, W]: levels are told by their names."""
    levels = info.coordinates.get("level")
    suffixes = [""] if levels is None else [f"@{level:g}" for level in levels]
    named = zip(info.channels, info.units, strict=True)
    return [(f"{name}{suffix}", unit) for name, unit in named for suffix in suffixes]


def _by_channel(samples: Array, info: DataInfo) -> Array:
    """[n, V, …, H, W] to [n, C, H, W], or [n, T, C, H, W] where there are times."""
    n, V, *_, H, W = samples.shape
    if "time" not in info.coordinates:
        return samples.reshape(n, -1, H, W)
    T = len(info.coordinates["time"])
    return np.swapaxes(samples.reshape(n, V, T, -1, H, W), 1, 2).reshape(n, T, -1, H, W)


def _content(info: DataInfo, numbers: Sequence[int]) -> Content:
    """Of the samples with these numbers."""
    leading = {"sample": Coordinate(np.array(numbers), {"long_name": "number"})}
    if "time" in info.coordinates:
        steps = np.arange(len(info.coordinates["time"]))
        leading["step"] = Coordinate(steps, {"long_name": "steps after the first time"})
    units = dict(zip(info.channels, info.units, strict=True))
    names = {name: name.partition("@")[0] for name in info.channels}
    return Content(
        leading=leading,
        channels=tuple(name for name, _ in _channels(info)),
        latitude=np.array(info.coordinates["latitude"]),
        longitude=np.array(info.coordinates["longitude"]),
        attributes={
            variable: {**info.attributes.get(variable, {}), "units": units[name]}
            for name, variable in names.items()
        },
        beside={},
    )
