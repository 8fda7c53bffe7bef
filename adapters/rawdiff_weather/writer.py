"""Samples as a CF zarr store, with the names, units and coordinates of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

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
        store = FieldStore(folder / FILE, _content(info, first_index + len(samples)))
        if first_index == 0:
            store.create("Samples", {})
        else:
            store.lengthen()
        fields = _by_channel(samples, info)
        store.write((slice(first_index, first_index + len(samples)),), fields)
        store.finish()  # of a set in parts each is whole
        return [store.path]

    def draw(
        self,
        samples: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> Image.Image:
        """Of samples with further axes the first time, at all levels."""
        fields = _by_channel(samples, info)
        first = fields[:, 0] if "time" in info.coordinates else fields
        channels, units = zip(*_channels(info), strict=True)
        flat = replace(info, shape=first.shape[1:], channels=channels, units=units)
        return super().draw(first, info=flat, labels=labels, columns=columns)


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


def _content(info: DataInfo, num_samples: int) -> Content:
    leading = {"sample": Coordinate(np.arange(num_samples), {"long_name": "number"})}
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
