"""What zarr stores and NetCDF files hold together: one canonical set of fields over time.

Latitude descends, longitude ascends in [0, 360), levels ascend in hPa, dims are found by name
and CF metadata. xarray reads names, coordinates and attributes here; fields are read by
`rawdiff_weather.reading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from rawdiff.errors import UserError
from rawdiff_weather.axes import SAME, Floats, Ints, closes, spacing
from rawdiff_weather.layout import Piece, Store
from rawdiff_weather.stores import expand, open_store
from rawdiff_weather.times import TimeAxis


@dataclass(frozen=True, eq=False)
class Variable:
    """A field at all times of a source, or without time if `places` is None.

    `levels` ascend (hPa; none at the surface). `places` [T, 2] says for each time which of the
    pieces has it, and as which of its times.
    """

    name: str
    levels: tuple[float, ...]
    pieces: tuple[Piece, ...]
    places: Ints | None

    @property
    def is_static(self) -> bool:
        return self.places is None

    @property
    def units(self) -> str:
        return self.pieces[0].units

    @property
    def long_name(self) -> str:
        return str(self.attributes.get("long_name", self.name))

    @property
    def attributes(self) -> Mapping[str, Any]:
        """As they are written, but for those of the packing."""
        return self.pieces[0].attributes


@dataclass(frozen=True, eq=False)
class Source:
    """`members` and `leads` (seconds) are empty where there are no such dims.

    `skipped` says why a variable of the files is no field on the grid.
    """

    paths: tuple[str, ...]
    variables: Mapping[str, Variable]
    skipped: Mapping[str, str]
    times: TimeAxis
    latitude: Floats
    longitude: Floats
    members: tuple[int, ...] = ()
    leads: tuple[int, ...] = ()

    @cached_property
    def is_global(self) -> bool:
        """Whether the last longitude is the first one's neighbour."""
        return closes(self.longitude)

    @property
    def spacing(self) -> tuple[float | None, float | None]:
        """Degrees between latitudes and between longitudes; None where that differs."""
        return spacing(self.latitude), spacing(self.longitude)


def open_source(paths: str | Sequence[str]) -> Source:
    """The fields of one or several zarr stores (any fsspec URL) or NetCDF files (patterns too).

    Files with the same variables follow each other in time; files with other variables at the
    same times, or without time, are put beside them. UserError if they do not fit together.
    """
    stores = [open_store(path) for path in expand([paths] if isinstance(paths, str) else paths)]
    groups: dict[frozenset[str], list[Store]] = {}
    for store in stores:
        groups.setdefault(store.with_time(), []).append(store)
    still = groups.pop(frozenset(), [])
    if not groups:
        raise UserError(
            f"{stores[0].path} has no dim of time, nor has another of the files. Give one with "
            "times, whose units are such as `hours since 1970-01-01`."
        )
    _check_apart(groups)
    joined = [_join(names, group) for names, group in groups.items()]
    first = stores[0]
    for store in stores[1:]:
        _check_alike(first, store)
    times, variables = joined[0]
    for (other, more), group in zip(joined[1:], list(groups.values())[1:], strict=True):
        _check_same_times(times, other, next(iter(groups.values()))[0], group[0])
        variables = {**variables, **more}
    for store in [*still, *(store for group in groups.values() for store in group)]:
        for name, piece in store.pieces.items():
            if not piece.has_time and name not in variables:
                levels = tuple(sorted(piece.levels))
                variables[name] = Variable(name, levels, (piece,), None)
    return Source(
        paths=tuple(store.path for store in stores),
        variables=variables,
        skipped={k: v for store in stores for k, v in store.skipped.items() if k not in variables},
        times=times,
        latitude=first.latitude,
        longitude=first.longitude,
        members=next((store.members for store in stores if store.members), ()),
        leads=next((store.leads for store in stores if store.leads), ()),
    )


def _join(names: frozenset[str], stores: list[Store]) -> tuple[TimeAxis, dict[str, Variable]]:
    """Stores with the same variables, one after the other in time."""
    axes = {id(store): store.times for store in stores if store.times is not None}
    assert len(axes) == len(stores)
    for store in stores[1:]:
        _check_same_calendar(stores[0], store, axes)
    stores = sorted(stores, key=lambda store: int(axes[id(store)].seconds[0]))
    first = stores[0]
    for before, after in pairwise(stores):
        _check_follows(before, axes[id(before)], after, axes[id(after)])
        for name, piece in first.pieces.items():
            if name in names:
                _check_same_field(piece, after.pieces[name])
    lengths = [len(axes[id(store)]) for store in stores]
    places = np.stack(
        [np.repeat(np.arange(len(stores)), lengths), np.concatenate([*map(np.arange, lengths)])], 1
    )
    seconds = np.concatenate([axes[id(store)].seconds for store in stores])
    return TimeAxis.of(seconds, axes[id(first)].calendar), {
        name: Variable(
            name=name,
            levels=tuple(sorted(first.pieces[name].levels)),
            pieces=tuple(_sharing(store.pieces[name], first.pieces[name]) for store in stores),
            places=places,
        )
        for name in first.pieces
        if name in names
    }


def _sharing(piece: Piece, first: Piece) -> Piece:
    """With the indices of the first where they are the same: a plan of many files stays small."""
    names = ("latitude", "longitude")
    same = {
        n: getattr(first, n) for n in names if np.array_equal(getattr(piece, n), getattr(first, n))
    }
    return replace(piece, **same)


def _check_apart(groups: Mapping[frozenset[str], list[Store]]) -> None:
    """UserError if stores share some of their variables, but not all."""
    (names, (one, *_)), *others = groups.items()
    for other_names, (other, *_) in others:
        if both := sorted(names & other_names):
            only = {p: sorted(n) for p, n in ((one.path, names - other_names),
                                              (other.path, other_names - names)) if n}  # fmt: skip
            listed = "; ".join(f"only {path} has {_named(found)}" for path, found in only.items())
            raise UserError(
                f"{one.path} and {other.path} both have {_named(both)}, but {listed}. Files that "
                "follow each other in time must have the same variables, others none in common."
            )
    if others:
        _check_apart(dict(others))


def _check_same_calendar(one: Store, other: Store, axes: Mapping[int, TimeAxis]) -> None:
    calendars = [axes[id(store)].calendar for store in (one, other)]
    if calendars[0] != calendars[1]:
        raise UserError(
            f"{one.path} counts time in the calendar `{calendars[0]}`, {other.path} in "
            f"`{calendars[1]}`. Convert one of them, `dataset.convert_calendar(…)`."
        )


def _check_follows(before: Store, earlier: TimeAxis, after: Store, later: TimeAxis) -> None:
    if later.seconds[0] <= earlier.seconds[-1]:
        raise UserError(
            f"{before.path} goes on until {earlier.text(-1)}, but {after.path} begins at "
            f"{later.text(0)}: times would be there twice. Leave one out, or cut it."
        )


def _check_same_times(times: TimeAxis, other: TimeAxis, one: Store, another: Store) -> None:
    if times.calendar == other.calendar and np.array_equal(times.seconds, other.seconds):
        return
    parts = [
        f"{store.path} {len(axis)} times from {axis.text(0)} to {axis.text(-1)} ({axis.calendar})"
        for store, axis in ((one, times), (another, other))
    ]
    alone = np.setxor1d(times.seconds, other.seconds)
    example = f"; not in both: {TimeAxis(alone, times.calendar).text(0)}" if len(alone) else ""
    raise UserError(
        f"Files with other variables must have the same times, but there are {' and '.join(parts)}"
        f"{example}. Cut them to the same times."
    )


def _check_same_field(one: Piece, other: Piece) -> None:
    if one.units != other.units:
        raise UserError(
            f"`{one.name}` has the units `{one.units}` in {one.path}, but `{other.units}` in "
            f"{other.path}. Convert one of them."
        )
    if set(one.levels) != set(other.levels):
        raise UserError(
            f"`{one.name}` has the levels {sorted(one.levels)} in {one.path}, but "
            f"{sorted(other.levels)} in {other.path}. Give files with the same ones."
        )


def _check_alike(one: Store, other: Store) -> None:
    """UserError if the grids, members or leads of two stores differ."""
    for name in ("latitude", "longitude"):
        a, b = getattr(one, name), getattr(other, name)
        if len(a) != len(b) or np.abs(a - b).max() > SAME:
            raise UserError(
                f"The grids differ: {one.path} has {len(a)} {name}s from {a[0]:g} to {a[-1]:g}, "
                f"{other.path} {len(b)} from {b[0]:g} to {b[-1]:g}. Regrid one of them."
            )
    for name in ("members", "leads"):
        a, b = getattr(one, name), getattr(other, name)
        if a and b and a != b:
            raise UserError(
                f"{one.path} has the {name} {list(a)}, but {other.path} {list(b)}. Give files "
                "with the same ones."
            )


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:10]) + (", …" if len(names) > 10 else "")
