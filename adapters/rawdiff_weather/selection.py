"""Which fields, times and places of a source are wanted: a plan that a Reader carries out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rawdiff.errors import UserError
from rawdiff_weather.axes import SAME, Floats, Ints, closes
from rawdiff_weather.source import Source, Variable
from rawdiff_weather.times import TimeAxis


class Channel(NamedTuple):
    """A variable at one of its levels (hPa), or at none."""

    variable: str
    level: float | None
    units: str

    @property
    def name(self) -> str:
        return self.variable if self.level is None else f"{self.variable}@{self.level:g}"


class Region(NamedTuple):
    """Degrees; `west` to `east` goes eastwards and may cross longitude 0 or the date line."""

    south: float = -90.0
    north: float = 90.0
    west: float = 0.0
    east: float = 360.0


@dataclass(frozen=True, eq=False)
class Plan:
    """Fields [T, C, latitude, longitude] in canonical order; `static` are [S, …] without time.

    `time_indices`, `rows` and `columns` are places in the source. `longitude` is in [0, 360) and
    goes eastwards from the region's west. `members` are those that can be read, none where there
    is no such dim; `lead` is the place of the chosen lead time.
    """

    channels: tuple[Channel, ...]
    static: tuple[Channel, ...]
    variables: Mapping[str, Variable]
    times: TimeAxis
    time_indices: Ints
    latitude: Floats
    longitude: Floats
    rows: Ints
    columns: Ints
    members: tuple[int, ...] = ()
    member_indices: tuple[int, ...] = ()
    lead: int = 0

    @property
    def is_global(self) -> bool:
        """Whether the last longitude is the first one's neighbour."""
        return closes(self.longitude)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one time: (C, latitude, longitude)."""
        return len(self.channels), len(self.latitude), len(self.longitude)


def select(
    source: Source,
    variables: Sequence[str] | None = None,
    levels: Sequence[float] | None = None,
    *,
    static: Sequence[str] = (),
    start: str | None = None,
    end: str | None = None,
    step: str | None = None,
    region: Region | None = None,
    member: int | None = None,
    lead_hours: float | None = None,
) -> Plan:
    """A plan of `variables` (default: all with time) at `levels` (default: all of each).

    Channels go by the order of variables, then by that of levels. A name such as
    `temperature@850` takes that level alone. `start` and `end` are included; `step` such as `6h`
    counts from the first time. `member` is a number of `source.members` (default: all). UserError
    for what the source does not have.
    """
    if variables is None:
        variables = [name for name, v in source.variables.items() if not v.is_static]
    channels = _channels(source, variables, levels)
    for channel in channels:
        if source.variables[channel.variable].is_static:
            raise UserError(f"`{channel.variable}` has no time; name it among the static fields.")
    still = _channels(source, static, levels)
    for channel in still:
        if not source.variables[channel.variable].is_static:
            raise UserError(f"`{channel.variable}` changes with time, so it is no static field.")
    if not channels:
        raise UserError("No variable is chosen. Name at least one that changes with time.")
    rows, columns = _places(source, region or Region())
    indices = source.times.select(start, end, step)
    times = source.times.take(indices, step)
    chosen = _members(source, member)
    used = {channel.variable for channel in (*channels, *still)}
    return Plan(
        channels=channels,
        static=still,
        variables={name: source.variables[name] for name in source.variables if name in used},
        times=times,
        time_indices=indices,
        latitude=source.latitude[rows],
        longitude=source.longitude[columns],
        rows=rows,
        columns=columns,
        members=tuple(source.members[i] for i in chosen),
        member_indices=chosen,
        lead=_lead(source, lead_hours),
    )


def _channels(
    source: Source, names: Sequence[str], levels: Sequence[float] | None
) -> tuple[Channel, ...]:
    channels: list[Channel] = []
    for written in names:
        name, at, text = written.partition("@")
        if written in source.variables:
            name, at = written, ""
        variable = _variable(source, name)
        wanted: Sequence[float] = [_level(text, written)] if at else (levels or variable.levels)
        if at or variable.levels:
            _check_levels(variable, wanted)
            channels += [Channel(name, float(level), variable.units) for level in wanted]
        else:
            channels.append(Channel(name, None, variable.units))
    twice = [channel.name for i, channel in enumerate(channels) if channel in channels[:i]]
    if twice:
        raise UserError(f"`{twice[0]}` is chosen twice. Name each field once.")
    return tuple(channels)


def _variable(source: Source, name: str) -> Variable:
    if name in source.variables:
        return source.variables[name]
    if name in source.skipped:
        raise UserError(f"`{name}` cannot be used: it {source.skipped[name]}.")
    near = difflib.get_close_matches(name, source.variables, n=3, cutoff=0.5)
    have = ", ".join(f"`{known}`" for known in near or list(source.variables)[:20])
    raise UserError(
        f"There is no variable `{name}` in {source.paths[0]}; "
        f"{'did you mean one of' if near else 'there are'}: {have}?"
    )


def _level(text: str, written: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"`{written}`: the level after @ is no number (hPa).") from error


def _check_levels(variable: Variable, wanted: Sequence[float]) -> None:
    missing = [level for level in wanted if float(level) not in variable.levels]
    if missing:
        have = ", ".join(f"{level:g}" for level in variable.levels) or "none"
        raise UserError(
            f"`{variable.name}` has no level {missing[0]:g}; its levels are: {have}. Choose of "
            "them."
        )


def _places(source: Source, region: Region) -> tuple[Ints, Ints]:
    """Rows and columns of a region. UserError if it is empty, or if the source has a hole in it."""
    if region.south > region.north:
        raise UserError(f"The region's south, {region.south:g}, lies north of {region.north:g}.")
    latitude, longitude = source.latitude, source.longitude
    rows = np.flatnonzero((latitude >= region.south - SAME) & (latitude <= region.north + SAME))
    width = region.east - region.west
    if abs(width) >= 360 - SAME:
        columns = np.arange(len(longitude))
    else:
        eastwards = np.mod(longitude - region.west + SAME, 360.0)
        order = np.argsort(eastwards, kind="stable")
        columns = order[eastwards[order] <= width % 360.0 + 2 * SAME]
    if not len(rows) or not len(columns):
        raise UserError(
            f"There is no grid point in the region {tuple(region)} (south, north, west, east); "
            f"the data lie from {latitude[-1]:g} to {latitude[0]:g} north and from "
            f"{longitude[0]:g} eastwards to {longitude[-1]:g}."
        )
    distances = np.mod(np.diff(longitude[columns]), 360.0)
    if len(distances) and distances.max() > 1.5 * np.median(_all_distances(longitude)):
        i = int(distances.argmax())
        raise UserError(
            f"The region has a hole: the data have nothing between {longitude[columns[i]]:g} and "
            f"{longitude[columns[i + 1]]:g} degrees east. Choose one without."
        )
    return rows, columns


def _all_distances(longitude: Floats) -> Floats:
    return np.mod(np.diff(longitude), 360.0) if len(longitude) > 1 else np.array([360.0])


def _members(source: Source, member: int | None) -> tuple[int, ...]:
    if member is None:
        return tuple(range(len(source.members)))
    if member not in source.members:
        have = ", ".join(map(str, source.members)) or "none"
        raise UserError(f"There is no member {member}; there are: {have}. Choose one of them.")
    return (source.members.index(member),)


def _lead(source: Source, hours: float | None) -> int:
    have = ", ".join(f"{seconds / 3600:g}" for seconds in source.leads[:40]) or "none"
    if hours is None:
        if len(source.leads) > 1:
            raise UserError(f"These are forecasts with the lead times {have} hours. Choose one.")
        return 0
    if round(hours * 3600) not in source.leads:
        raise UserError(f"There is no lead time of {hours:g} hours; there are: {have}.")
    return source.leads.index(round(hours * 3600))
