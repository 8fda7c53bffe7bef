"""Which dim of a file is which, by CF metadata and name, and the canonical order of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import cftime
import numpy as np
import numpy.typing as npt
import xarray as xr

from rawdiff.errors import UserError
from rawdiff_weather.times import EPOCH, PROLEPTIC

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Fields: TypeAlias = npt.NDArray[np.float32]
Role: TypeAlias = Literal["time", "member", "lead", "level", "latitude", "longitude"]

ROLES: tuple[Role, ...] = ("time", "member", "lead", "level", "latitude", "longitude")
"""The order of dims to which every block that is read is brought."""

STANDARD_NAMES: dict[str, Role] = {
    "latitude": "latitude",
    "longitude": "longitude",
    "air_pressure": "level",
    "realization": "member",
    "forecast_period": "lead",
    "time": "time",
    "forecast_reference_time": "time",
}
ALIASES: dict[Role, tuple[str, ...]] = {
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "long"),
    "level": (
        *("level", "pressure_level", "isobaricinhpa", "plev", "lev", "pressure", "isobaric"),
        *("hybrid", "model_level", "height", "depth"),
    ),
    "time": ("time", "valid_time", "init_time", "forecast_reference_time"),
    "member": ("number", "member", "realization", "sample", "ensemble"),
    "lead": ("prediction_timedelta", "lead_time", "step"),
}
NAMES: dict[str, Role] = {name: found for found, names in ALIASES.items() for name in names}
DEGREES = {
    **dict.fromkeys(("degrees_north", "degree_north", "degrees_n", "degree_n"), "latitude"),
    **dict.fromkeys(("degrees_east", "degree_east", "degrees_e", "degree_e"), "longitude"),
}
TO_HPA = {"hpa": 1.0, "millibar": 1.0, "millibars": 1.0, "mbar": 1.0, "mb": 1.0, "pa": 0.01}
LEAD_SECONDS = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
SAME = 1e-4  # degrees below which two places are one, as coordinates may be float32


def find_role(name: str, coordinate: xr.Variable | None) -> Role | None:
    """What a dim is: by its coordinate's standard name, its units, its own name."""
    attributes: Mapping[str, Any] = {} if coordinate is None else coordinate.attrs
    units = str(attributes.get("units", "")).lower()
    if known := STANDARD_NAMES.get(str(attributes.get("standard_name", ""))):
        return known
    if direction := DEGREES.get(units):
        return "latitude" if direction == "latitude" else "longitude"
    if " since " in units:
        return "time"
    if known := NAMES.get(name.lower()):
        return known
    if name.lower() in ("x", "y") and units in ("degrees", "degree"):
        return "longitude" if name.lower() == "x" else "latitude"
    vertical = units in TO_HPA or attributes.get("axis") == "Z" or "positive" in attributes
    return "level" if vertical else None


def decoded(coordinate: xr.Variable) -> Floats:
    """Its numbers, unpacked."""
    plain = xr.Dataset({"values": (coordinate.dims, coordinate.values, coordinate.attrs)})
    values = xr.decode_cf(plain, decode_times=False, decode_coords=False)["values"].values
    return np.atleast_1d(values.astype(np.float64))


def decode_times(coordinate: xr.Variable, where: str) -> tuple[Ints, str]:
    """Whole seconds since 1970-01-01T00 [T], and the calendar in which they are counted."""
    units = str(coordinate.attrs.get("units", ""))
    if " since " not in units:
        raise UserError(
            f"{where} has times without units such as `hours since 1970-01-01` (found "
            f"`{units}`). Write the units, as CF has them."
        )
    plain = xr.Dataset({"values": (coordinate.dims, coordinate.values, coordinate.attrs)})
    try:
        times = np.atleast_1d(xr.decode_cf(plain, decode_coords=False)["values"].values)
        if times.dtype.kind == "M":
            if np.isnat(times).any():
                raise ValueError("a time is missing")
            halves = times.astype("datetime64[ms]") + 500  # hours as fractions of days are inexact
            return halves.astype("datetime64[s]").astype(np.int64), PROLEPTIC
        calendar = str(times[0].calendar)
        seconds = np.rint(cftime.date2num(times, EPOCH, calendar).astype(np.float64))
        return seconds.astype(np.int64), calendar
    except (ValueError, TypeError, OverflowError, AttributeError, IndexError) as error:
        raise UserError(
            f"{where} has times that cannot be decoded ({error}): units `{units}`, calendar "
            f"`{coordinate.attrs.get('calendar', 'standard')}`. Write them as CF has them."
        ) from error


def leads_in_seconds(coordinate: xr.Variable, where: str) -> Ints:
    """Lead times [L] in whole seconds."""
    units = str(coordinate.attrs.get("units", coordinate.attrs.get("dtype", ""))).lower()
    size = LEAD_SECONDS.get(units) or LEAD_SECONDS.get(f"{units}s")
    if units in ("nanoseconds", "ns", "timedelta64[ns]"):
        return np.rint(decoded(coordinate) / 1e9).astype(np.int64)
    if size is None:
        raise UserError(f"{where} has lead times in `{units}`; write them in hours or days.")
    return np.rint(decoded(coordinate) * size).astype(np.int64)


def levels_in_hpa(coordinate: xr.Variable) -> tuple[float, ...]:
    """As they are stored; those that are no pressure keep their own units."""
    factor = TO_HPA.get(str(coordinate.attrs.get("units", "")).lower(), 1.0)
    return tuple(round(value * factor, 6) for value in decoded(coordinate).tolist())


def order_latitudes(stored: Floats) -> Ints:
    """Indices that make them descend."""
    return np.argsort(-stored, kind="stable")


def wrap(longitude: Floats) -> Floats:
    """In [0, 360)."""
    wrapped = np.mod(longitude, 360.0)
    return np.where(wrapped > 360 - SAME, 0.0, wrapped)


def order_longitudes(stored: Floats) -> Ints:
    """Indices that make them ascend in [0, 360); a region goes from its west to its east.

    A column that is there twice (0 and 360 degrees) is taken once.
    """
    wrapped = wrap(stored)
    order = np.argsort(wrapped, kind="stable")
    order = order[np.concatenate([[True], np.diff(wrapped[order]) > SAME])]
    if closes(wrapped[order]):
        return order
    return np.roll(order, -int(_distances(wrapped[order]).argmax()) - 1)


def closes(longitude: Floats) -> bool:
    """Whether the last longitude is the first one's neighbour, as on the whole Earth."""
    distances = _distances(longitude)
    return len(longitude) > 2 and bool(distances.max() < 1.1 * np.median(distances))


def _distances(longitude: Floats) -> Floats:
    """From each longitude eastwards to the next, from the last to the first."""
    return np.mod(np.roll(longitude, -1) - longitude, 360.0)


def spacing(coordinate: Floats) -> float | None:
    """Degrees between neighbours; None if that differs, or if there is one alone."""
    if len(coordinate) < 2:
        return None
    distances = np.abs((np.diff(coordinate) + 180.0) % 360.0 - 180.0)
    even = np.ptp(distances) < max(SAME, 1e-3 * float(distances.mean()))
    return round(float(distances.mean()), 6) if even else None
