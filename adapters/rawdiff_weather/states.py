"""A packed copy of states: one memory-mapped array, and beside it what it holds.

`states.bin` is float32 [time, member, channel, latitude, longitude] in C order, missing values are
NaN; `static.bin` [channel, latitude, longitude]. `index.json` names their channels, coordinates,
units and attributes. A copy only grows: times follow each other as they were packed.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.settings import Settings
from rawdiff_weather.axes import Fields
from rawdiff_weather.layout import Piece
from rawdiff_weather.packing import Packing
from rawdiff_weather.source import Source, Variable
from rawdiff_weather.times import Step, TimeAxis

INDEX, STATES, STATIC = "index.json", "states.bin", "static.bin"
FLOAT32 = np.dtype("<f4")


class PackedVariable(Settings):
    """Its channels follow each other in the order of `levels` (hPa; none: one channel)."""

    name: str
    levels: tuple[float, ...]
    attributes: dict[str, Any]

    @property
    def num_channels(self) -> int:
        return max(len(self.levels), 1)


class Index(Settings):
    """What a copy holds: `seconds` of its times (since 1970-01-01 in `calendar`) as they lie there.

    `time_step` is that of the source. `ranges` has the number of times in each range of time, as a
    dataset asks for it, that was packed to its end.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # in attributes

    format_version: Literal[1] = 1
    variables: tuple[PackedVariable, ...]
    static: tuple[PackedVariable, ...]
    latitude: tuple[float, ...]
    longitude: tuple[float, ...]
    members: tuple[int, ...]
    calendar: str
    time_step: tuple[int, Literal["seconds", "months"]] | None
    seconds: tuple[int, ...] = ()
    ranges: dict[str, int] = Field(default_factory=dict)

    def shape(self, variables: tuple[PackedVariable, ...]) -> tuple[int, int, int]:
        """(C, latitude, longitude) of some variables."""
        num_channels = sum(variable.num_channels for variable in variables)
        return num_channels, len(self.latitude), len(self.longitude)

    @property
    def num_members(self) -> int:
        return max(len(self.members), 1)

    @property
    def bytes_of_a_time(self) -> int:
        return 4 * self.num_members * prod(self.shape(self.variables))

    def write(self, folder: Path) -> None:
        write_text(folder / INDEX, json.dumps(self.model_dump(mode="json")))


def read_index(folder: Path) -> Index | None:
    """None if there is no copy. UserError if it is damaged."""
    path = folder / INDEX
    try:
        return Index.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be understood: {error}. Delete its folder and pack it again with "
            "`rawdiff prepare`."
        ) from error


def packed_source(folder: Path) -> Source:
    """The fields of a copy, as `open_source` gives those of files."""
    index = read_index(folder)
    assert index is not None, "is asked for only where there is a copy"
    seconds = np.array(index.seconds, dtype=np.int64)
    order = np.argsort(seconds)
    step = None if index.time_step is None else Step(*index.time_step)
    places = np.stack([np.zeros_like(order), order], axis=1)
    changing = {
        variable.name: _variable(index, folder, variable, places) for variable in index.variables
    }
    still = {variable.name: _variable(index, folder, variable, None) for variable in index.static}
    return Source(
        paths=(str(folder),),
        variables=still | changing,
        skipped={},
        times=TimeAxis(seconds[order], index.calendar, step),
        latitude=np.array(index.latitude),
        longitude=np.array(index.longitude),
        members=index.members,
    )


def _variable(index: Index, folder: Path, variable: PackedVariable, places: Any) -> Variable:
    grid = len(index.latitude), len(index.longitude)
    times = () if places is None else (len(index.seconds), index.num_members)
    level: Any = "level" if variable.levels else None
    piece = Piece(
        path=str(folder),
        kind="packed",
        name=variable.name,
        roles=(*(("time", "member") if times else ()), level, "latitude", "longitude"),
        shape=(*times, variable.num_channels, *grid),
        chunks=(*(1 for _ in times), variable.num_channels, *grid),
        packing=Packing(stored=np.dtype("f4"), computed=np.dtype("f4")),
        levels=variable.levels,
        latitude=np.arange(grid[0]),
        longitude=np.arange(grid[1]),
        attributes=variable.attributes,
        has_time=bool(times),
    )
    return Variable(variable.name, tuple(sorted(variable.levels)), (piece,), places)


def map_states(path: str) -> dict[str, Fields]:
    """Of each variable [time, member, level, latitude, longitude], read-only; [level, …] if static.

    UserError if a file was cut off.
    """
    folder = Path(path)
    index = read_index(folder)
    if index is None:
        raise UserError(f"{folder} is gone. `rawdiff prepare` packs it again.")
    times = len(index.seconds), index.num_members
    states = _map(folder / STATES, (*times, *index.shape(index.variables)))
    static = _map(folder / STATIC, index.shape(index.static))
    return _split(index.static, static) | _split(index.variables, states)


def _split(variables: tuple[PackedVariable, ...], fields: Fields) -> dict[str, Fields]:
    ends = np.cumsum([variable.num_channels for variable in variables]).tolist()
    return {
        variable.name: fields[..., end - variable.num_channels : end, :, :]
        for variable, end in zip(variables, ends, strict=True)
    }


def _map(path: Path, shape: tuple[int, ...]) -> Fields:
    expected = 4 * prod(shape)
    if not expected:
        return np.empty(shape, FLOAT32)
    found = path.stat().st_size if path.is_file() else 0
    if found < expected:
        raise UserError(
            f"{path} has {found:,} bytes instead of {expected:,}. Delete its folder and pack it "
            "again with `rawdiff prepare`."
        )
    return np.memmap(path, FLOAT32, mode="r", shape=shape).view(np.ndarray)
