"""Fields in a zarr store as CF and the tools of WeatherBench have it: one chunk for each field.

Version 2 of the format with consolidated metadata, which all of them read. (CF 1.11,
Rasp et al. 2024)
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync

from rawdiff.errors import UserError
from rawdiff.version import __version__
from rawdiff_weather.axes import Fields, Floats
from rawdiff_weather.scores import variable_and_level

CONVENTIONS = "CF-1.11"
ORIGIN = "rawdiff"  # the attribute that says what the fields depend on
STATUS = "status"  # and the one that says whether all of them are there
DIMS = "_ARRAY_DIMENSIONS"  # where version 2 keeps their names
GRID_ATTRIBUTES: dict[str, dict[str, str]] = {
    "latitude": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
    "level": {"standard_name": "air_pressure", "units": "hPa", "positive": "down", "axis": "Z"},
}
NOT_CARRIED = ("_FillValue", "missing_value", "coordinates", "grid_mapping", DIMS)


@dataclass(frozen=True, eq=False)
class Coordinate:
    """Values along `dims` (by default along the dim of its own name), with CF attributes."""

    values: npt.NDArray[Any]
    attributes: Mapping[str, Any]
    dims: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Content:
    """What a store holds: `channels` on a grid, for each place in the `leading` dims in order.

    Other coordinates stand in `beside`. `attributes` are those of variables, by name.
    """

    leading: Mapping[str, Coordinate]
    channels: tuple[str, ...]
    latitude: Floats
    longitude: Floats
    attributes: Mapping[str, Mapping[str, Any]]
    beside: Mapping[str, Coordinate]

    @cached_property
    def variables(self) -> dict[str, dict[float | None, int]]:
        """Of each variable the channel at each of its levels (None at the surface)."""
        found: dict[str, dict[float | None, int]] = {}
        for place, channel in enumerate(self.channels):
            variable, level = variable_and_level(channel)
            found.setdefault(variable, {})[level] = place
        return found

    @cached_property
    def levels(self) -> list[float]:
        """All levels of all variables (hPa), ascending."""
        return sorted({lev for own in self.variables.values() for lev in own if lev is not None})

    def coordinates(self) -> dict[str, Coordinate]:
        grid = {"latitude": self.latitude, "longitude": rising(self.longitude)}
        if self.levels:
            levels = np.array(self.levels)
            whole = (levels == np.round(levels)).all()
            grid["level"] = levels.astype(np.int64) if whole else levels
        on_grid = {name: Coordinate(v, GRID_ATTRIBUTES[name]) for name, v in grid.items()}
        return {**self.leading, **on_grid, **self.beside}


@dataclass(frozen=True, eq=False)
class FieldStore:
    """A store on the local disk with exactly this content."""

    path: Path
    content: Content

    def create(self, title: str, origin: Mapping[str, Any]) -> None:
        """Make the store, or find it as an earlier call with the same `origin` left it.

        UserError if anything else is there.
        """
        told = json.dumps(origin, sort_keys=True)
        if self.path.exists():
            self._require(told)
            return
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        attributes: dict[str, Any] = {
            "Conventions": CONVENTIONS,
            "title": title,
            "source": f"rawdiff {__version__}",
            ORIGIN: told,
            STATUS: "unfinished: the command that wrote it goes on where it stopped",
        }
        group = zarr.open_group(partial, mode="w", zarr_format=2, attributes=attributes)
        for name, coordinate in self.content.coordinates().items():
            dims = coordinate.dims or (name,)
            array = group.create_array(
                name, shape=coordinate.values.shape, dtype=coordinate.values.dtype,
                chunks=tuple(max(size, 1) for size in coordinate.values.shape),
                attributes={**coordinate.attributes, DIMS: dims}, fill_value=None,
            )  # fmt: skip
            array[...] = coordinate.values
        sizes = {name: len(c.values) for name, c in self.content.coordinates().items()}
        for variable, own in self.content.variables.items():
            dims = (*self.content.leading, "level", "latitude", "longitude")
            dims = tuple(name for name in dims if name != "level" or None not in own)
            given = self.content.attributes.get(variable, {})
            carried = {key: plain(v) for key, v in given.items() if key not in NOT_CARRIED}
            beside = {"coordinates": " ".join(self.content.beside)} if self.content.beside else {}
            group.create_array(
                variable, shape=tuple(sizes[name] for name in dims), dtype=np.float32,
                chunks=tuple(1 if name in self.content.leading else sizes[name] for name in dims),
                attributes={**carried, **beside, DIMS: dims}, fill_value=np.nan,
                config={"write_empty_chunks": True},
            )  # fmt: skip
        _consolidate(partial)
        try:
            partial.rename(self.path)
        except OSError as error:  # another process was faster
            shutil.rmtree(partial)
            raise UserError(
                f"{self.path} was made by another process at this moment. Give another place by "
                "--out, or run the same command again when that one has ended."
            ) from error

    def finish(self) -> None:
        """Say that all fields are there."""
        group = zarr.open_group(self.path, mode="r+", use_consolidated=False)
        if group.attrs[STATUS] != "finished":
            group.attrs[STATUS] = "finished"
            _consolidate(self.path)

    def _require(self, told: str) -> None:
        there: Any
        try:
            there = zarr.open_group(self.path, mode="r").attrs.get(ORIGIN)
        except (OSError, ValueError, KeyError):
            there = None
        if there != told:
            raise UserError(
                f"{self.path} is there already and holds something else than this forecast"
                f"{_differences(there, told)}. Give another place by --out, or delete it."
            )

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        group: Any = zarr.open_group(self.path, mode="r+", use_consolidated=False)
        config = {"write_empty_chunks": True}
        return {name: group[name].with_config(config) for name in self.content.variables}

    def write(self, where: Sequence[int | slice], fields: Fields) -> None:
        """Fields [..., C, latitude, longitude] at a place in the leading dims."""
        num_levels = len(self.content.levels)
        for variable, own in self.content.variables.items():
            if None in own:
                values = fields[..., own[None], :, :]
            else:
                shape = (*fields.shape[:-3], num_levels, *fields.shape[-2:])
                values = np.full(shape, np.nan, dtype=np.float32)
                for level, channel in own.items():
                    assert level is not None
                    values[..., self.content.levels.index(level), :, :] = fields[..., channel, :, :]
            self._arrays[variable][tuple(where)] = values

    def read(self, where: Sequence[int | slice]) -> Fields:
        """Inverse of `write`."""
        parts: dict[int, Any] = {}
        for variable, own in self.content.variables.items():
            values = self._arrays[variable][tuple(where)]
            for level, channel in own.items():
                place = None if level is None else self.content.levels.index(level)
                parts[channel] = values if place is None else values[..., place, :, :]
        return np.stack([parts[channel] for channel in sorted(parts)], axis=-3)

    def has(self, where: Sequence[int]) -> bool:
        """Whether all fields were written there."""
        return all(
            sync(array.store_path.store.exists(f"{array.path}/{_chunk_key(array, where)}"))
            for array in self._arrays.values()
        )


def rising(longitude: Floats) -> Floats:
    """Longitudes of a region that crosses 0 as -15 to 15: CF wants coordinates to be monotonic."""
    whole = np.unwrap(longitude, period=360)
    return whole - 360 if whole.max() >= 360 else whole


def _consolidate(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that only version 2 knows it, which this is
        zarr.consolidate_metadata(path, zarr_format=2)


def _chunk_key(array: Any, where: Sequence[int]) -> str:
    rest = array.ndim - len(where)
    key: str = array.metadata.encode_chunk_key((*where, *(0,) * rest))
    return key


def _differences(there: str | None, told: str) -> str:
    if there is None:
        return ""
    before, now = json.loads(there), json.loads(told)
    names = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return f" (other: {', '.join(names)})"


def plain(value: Any) -> Any:
    """A number of numpy as one of Python, as JSON has them."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
