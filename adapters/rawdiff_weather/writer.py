"""Samples as a CF zarr store, with the names, units and coordinates of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff_weather.output import Content, Coordinate, FieldStore

FILE = "samples.zarr"


class FieldWriter(Writer):
    """One zarr store, `samples.zarr`, with the dim `sample` before those of the fields."""

    num_drawn = 16

    def write(
        self,
        samples: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        labels: Sequence[int] | None = None,
    ) -> list[Path]:
        store = FieldStore(folder / FILE, _content(info, first_index + len(samples)))
        if first_index == 0:
            store.create("Samples", {})
        else:
            store.lengthen()
        store.write((slice(first_index, first_index + len(samples)),), samples)
        return [store.path]


def _content(info: DataInfo, num_samples: int) -> Content:
    variables = dict(zip(info.channels, info.units, strict=True))
    units = {name.partition("@")[0]: {"units": unit} for name, unit in variables.items()}
    return Content(
        leading={"sample": Coordinate(np.arange(num_samples), {"long_name": "number"})},
        channels=info.channels,
        latitude=np.array(info.coordinates["latitude"]),
        longitude=np.mod(info.coordinates["longitude"], 360),
        attributes={
            name: {**info.attributes.get(name, {}), **unit} for name, unit in units.items()
        },
        beside={},
    )
