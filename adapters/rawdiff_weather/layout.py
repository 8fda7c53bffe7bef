"""What lies where in one zarr store or NetCDF file: fields, grid and times, none of it read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from rawdiff.errors import UserError
from rawdiff_weather.axes import (
    SAME,
    Floats,
    Ints,
    Role,
    decode_times,
    decoded,
    find_role,
    leads_in_seconds,
    levels_in_hpa,
    order_latitudes,
    order_longitudes,
    wrap,
)
from rawdiff_weather.packing import ATTRIBUTES, Packing
from rawdiff_weather.times import TimeAxis

Kind: TypeAlias = Literal["zarr", "netcdf", "packed"]


@dataclass(frozen=True, eq=False)
class Piece:
    """One variable of one store. `roles`, `shape` and `chunks` go by the dims as stored.

    A dim of size one that is nothing we know has the role None. `levels` are as stored.
    `latitude` and `longitude` are the stored indices in canonical order.
    """

    path: str
    kind: Kind
    name: str
    roles: tuple[Role | None, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    packing: Packing
    levels: tuple[float, ...]
    latitude: Ints
    longitude: Ints
    attributes: Mapping[str, Any]
    has_time: bool

    @property
    def units(self) -> str:
        return str(self.attributes.get("units", ""))


@dataclass(frozen=True, eq=False)
class Store:
    """`latitude` descends, `longitude` ascends in [0, 360); leads are in seconds.

    `skipped` says why a variable is no field on the grid.
    """

    path: str
    pieces: Mapping[str, Piece]
    skipped: Mapping[str, str]
    times: TimeAxis | None
    latitude: Floats
    longitude: Floats
    members: tuple[int, ...]
    leads: tuple[int, ...]

    def with_time(self) -> frozenset[str]:
        return frozenset(name for name, piece in self.pieces.items() if piece.has_time)


def describe(dataset: xr.Dataset, path: str, kind: Kind) -> Store:
    """Of a dataset that is not decoded. UserError if it has no grid of latitude and longitude."""
    dims = _find_dims(dataset)
    grid = _find_grid(dataset, dims, path)
    time = _find_time(dataset, dims, grid, path)
    latitude, longitude = (_degrees(dims[name], name, path) for name in grid)
    rows, columns = order_latitudes(latitude), order_longitudes(longitude)
    pieces: dict[str, Piece] = {}
    skipped: dict[str, str] = {}
    for name, variable in _fields(dataset).items():
        if reason := _no_field(variable, dims, {*grid, time.dim}):
            skipped[name] = reason
            continue
        roles = tuple(dims[dim].role if dim in dims else None for dim in map(str, variable.dims))
        pieces[name] = Piece(
            path=path,
            kind=kind,
            name=name,
            roles=roles,
            shape=tuple(variable.shape),
            chunks=_chunks(variable, roles),
            packing=Packing.of(variable, kind),
            levels=_levels(variable, dims, path),
            latitude=rows,
            longitude=columns,
            attributes={k: v for k, v in variable.attrs.items() if k not in ATTRIBUTES},
            has_time=time.axis is not None and ("time" in roles or time.dim is None),
        )
    if not pieces:
        reasons = [f"`{name}` {reason}" for name, reason in skipped.items()]
        raise UserError(
            f"{path} has no field on a grid of latitude and longitude: "
            f"{'; '.join(reasons) or 'it has no variables'}. Look whether it is the right one."
        )
    members = next((dim.coordinate for dim in dims.values() if dim.role == "member"), None)
    leads = next((dim.coordinate for dim in dims.values() if dim.role == "lead"), None)
    return Store(
        path=path,
        pieces=pieces,
        skipped=skipped,
        times=time.axis,
        latitude=latitude[rows],
        longitude=wrap(longitude[columns]),
        members=() if members is None else tuple(decoded(members).astype(int).tolist()),
        leads=() if leads is None else tuple(leads_in_seconds(leads, path).tolist()),
    )


class _Dim(NamedTuple):
    role: Role
    coordinate: xr.Variable


class _Time(NamedTuple):
    """`dim` is None where the time is one number that stands for all of a file."""

    dim: str | None
    axis: TimeAxis | None


def _find_dims(dataset: xr.Dataset) -> dict[str, _Dim]:
    """The dims whose role is known; one without coordinates counts them from 0."""
    found: dict[str, _Dim] = {}
    for dim, size in dataset.sizes.items():
        along = [name for name, v in dataset.variables.items() if v.dims == (dim,)]
        for name in sorted(along, key=lambda name: name != dim):
            role = find_role(str(name), dataset.variables[name])
            if role and dataset.variables[name].dtype.kind in "iuf":
                found[str(dim)] = _Dim(role, dataset.variables[name])
                break
        else:
            if find_role(str(dim), None) == "member" and size > 1:
                found[str(dim)] = _Dim("member", xr.Variable(dim, np.arange(size)))
    return found


def _fields(dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """Variables that may lie on the grid: all that are no coordinates of one dim, or numbers."""
    return {str(n): v for n, v in dataset.variables.items() if v.ndim >= 2 and n not in v.dims}


def _find_grid(dataset: xr.Dataset, dims: Mapping[str, _Dim], path: str) -> tuple[str, str]:
    """The dims of latitude and longitude on which most variables lie."""
    pairs = Counter(
        (north, east)
        for variable in _fields(dataset).values()
        for north in map(str, variable.dims)
        for east in map(str, variable.dims)
        if north in dims and dims[north].role == "latitude"
        if east in dims and dims[east].role == "longitude"
    )
    if pairs:
        return pairs.most_common(1)[0][0]
    named = [str(n) for n, v in dataset.variables.items() if v.ndim == 2 and find_role(str(n), v)]
    curved = (
        f" Its `{named[0]}` has two dims: only grids whose rows are latitudes and whose columns "
        "are longitudes can be used; regrid it."
        if named
        else " Give the dims coordinates with the units degrees_north and degrees_east."
    )
    raise UserError(
        f"{path} has no variable over dims of latitude and longitude; its dims are "
        f"{', '.join(f'{dim} ({size})' for dim, size in dataset.sizes.items()) or 'none'}.{curved}"
    )


def _find_time(
    dataset: xr.Dataset, dims: Mapping[str, _Dim], grid: tuple[str, str], path: str
) -> _Time:
    """The dim of time that most variables have; else a number that dates the whole file."""
    counts = Counter(
        dim
        for variable in _fields(dataset).values()
        if set(grid) <= set(variable.dims)
        for dim in map(str, variable.dims)
        if dim in dims and dims[dim].role == "time"
    )
    if counts:
        dim = counts.most_common(1)[0][0]
        if not dataset.sizes[dim]:
            raise UserError(f"{path} has no times: its dim `{dim}` is empty. Leave it out.")
        seconds, calendar = decode_times(dims[dim].coordinate, path)
        return _Time(dim, _rising(TimeAxis(seconds, calendar), path))
    numbers = {str(n): v for n, v in dataset.variables.items() if v.ndim == 0}
    for name in ("valid_time", "time", *numbers):
        if name in numbers and " since " in str(numbers[name].attrs.get("units", "")):
            return _Time(None, TimeAxis.of(*decode_times(numbers[name], path)))
    return _Time(None, None)


def _rising(times: TimeAxis, path: str) -> TimeAxis:
    """UserError if the times are not sorted, or one is there twice."""
    wrong = np.flatnonzero(np.diff(times.seconds) <= 0)
    if len(wrong):
        i = int(wrong[0])
        problem = (
            f"has the time {times.text(i)} twice"
            if times.seconds[i] == times.seconds[i + 1]
            else f"has times that are not sorted: {times.text(i + 1)} follows {times.text(i)}"
        )
        raise UserError(
            f"{path} {problem} ({len(wrong)} such places). Write it again after "
            "`dataset.sortby('time').drop_duplicates('time')`."
        )
    return TimeAxis.of(times.seconds, times.calendar)


def _degrees(dim: _Dim, name: str, path: str) -> Floats:
    """Latitudes or longitudes as stored. UserError if they cannot be ones."""
    values = decoded(dim.coordinate)
    limit = 90.0 if dim.role == "latitude" else 360.0
    if not np.isfinite(values).all() or np.abs(values).max() > limit + SAME:
        raise UserError(
            f"{path}: `{name}` holds {values.min():g} to {values.max():g}, which are no "
            f"{dim.role}s in degrees. Write them so, or regrid it."
        )
    same = dim.role == "latitude" and (np.diff(np.sort(values)) < SAME / 10).any()
    if same:
        raise UserError(f"{path}: `{name}` holds a {dim.role} twice. Take each once.")
    return values


def _no_field(variable: xr.Variable, dims: Mapping[str, _Dim], used: set[str | None]) -> str:
    """Why a variable is no field on the grid and times that are used; empty if it is one."""
    missing = sorted(dim for dim in used if dim and dim not in variable.dims)
    missing = [dim for dim in missing if dims[dim].role != "time"]
    if missing:
        return f"has no dim `{missing[0]}`"
    if variable.dtype.kind not in "biuf" or variable.dtype.itemsize > 8:
        return f"holds {variable.dtype}, no real numbers"
    if not variable.size:
        return "is empty"
    if " since " in str(variable.attrs.get("units", "")):
        return "holds dates, no real numbers"
    roles: set[Role] = set()
    for dim, size in zip(map(str, variable.dims), variable.shape, strict=True):
        known = dims.get(dim)
        if known is None and size > 1:
            return f"has the dim `{dim}` ({size}), which is not known: select one place of it"
        if known and known.role in ("time", "latitude", "longitude") and dim not in used:
            return f"lies on another {known.role} than most variables, `{dim}`"
        if known and known.role in roles:
            return f"has two dims of {known.role}"
        roles |= {known.role} if known else set()
    return ""


def _levels(variable: xr.Variable, dims: Mapping[str, _Dim], path: str) -> tuple[float, ...]:
    """As they are stored; none if there is no such dim. UserError if one is there twice."""
    for dim in map(str, variable.dims):
        if dim in dims and dims[dim].role == "level":
            levels = levels_in_hpa(dims[dim].coordinate)
            if len(set(levels)) < len(levels):
                raise UserError(f"{path}: `{dim}` holds a level twice: {levels}. Take each once.")
            return levels
    return ()


def _chunks(variable: xr.Variable, roles: tuple[Role | None, ...]) -> tuple[int, ...]:
    """What is decoded in one piece. A file without chunks is read time by time."""
    encoding = variable.encoding
    chunks = encoding.get("chunks") or encoding.get("chunksizes")
    if chunks is None or encoding.get("contiguous"):
        pairs = zip(roles, variable.shape, strict=True)
        return tuple(1 if role in ("time", "member", "lead") else size for role, size in pairs)
    return tuple(int(size) for size in chunks)
