"""Values as they are stored to float32 in their units, NaN where missing, as CF has it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
import xarray as xr

from rawdiff.errors import UserError

ATTRIBUTES = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")


@dataclass(frozen=True, eq=False)
class Packing:
    """How one variable is packed: the arithmetic is done in `computed`, as xarray does it.

    `stored` is the dtype of the values that `missing` is compared with.
    """

    stored: np.dtype[Any]
    computed: np.dtype[Any]
    scale: Any = None
    offset: Any = None
    missing: tuple[Any, ...] = ()

    @staticmethod
    def of(variable: xr.Variable, kind: str) -> Packing:
        """Of a variable of real numbers that is not decoded yet."""
        attributes = {k: variable.attrs[k] for k in ATTRIBUTES if k in variable.attrs}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of several missing values
            empty = xr.Dataset({"v": ("n", np.empty(0, variable.dtype), attributes)})
            computed = xr.decode_cf(empty, decode_times=False, decode_coords=False)["v"].dtype
        stored = variable.dtype.newbyteorder("=")
        if (sign := str(attributes.get("_Unsigned", "")).lower()) in ("true", "false"):
            stored = np.dtype(f"{'u' if sign == 'true' else 'i'}{stored.itemsize}")
        given = [attributes.get(key, ()) for key in ("_FillValue", "missing_value")]
        if kind == "netcdf" and stored.kind == "f" and "_FillValue" not in attributes:
            given.append(netCDF4.default_fillvals[f"f{stored.itemsize}"])  # never written
        return Packing(
            stored=stored,
            computed=computed,
            scale=_number(attributes.get("scale_factor")),
            offset=_number(attributes.get("add_offset")),
            missing=_missing(given, stored),
        )

    @property
    def is_float32(self) -> bool:
        """Whether values are stored as they are, but perhaps for the missing ones."""
        return self.stored == np.float32 and self.scale is None and self.offset is None

    def mark_missing(self, values: npt.NDArray[np.float32]) -> None:
        """NaN where they are missing; of values that are stored as they are."""
        for value in self.missing:
            values[values == value] = np.nan

    def unpack(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """float32, a copy only where values change."""
        values = values.astype(values.dtype.newbyteorder("="), copy=False).view(self.stored)
        holes = [values == value for value in self.missing]
        unpacked = values
        if self.scale is not None or self.offset is not None:
            unpacked = values.astype(self.computed)
            if self.scale is not None:
                unpacked *= self.scale
            if self.offset is not None:
                unpacked += self.offset
        with np.errstate(over="ignore"):  # of missing values that float32 does not hold
            floats = unpacked.astype(np.float32, copy=bool(holes))
        for hole in holes:
            floats[hole] = np.nan
        return floats


def _number(attribute: Any) -> Any:
    """As it is, because the rounding depends on its type: a float rounds as its array does."""
    if attribute is None or isinstance(attribute, str):
        return None if attribute is None else _of_text(attribute)
    return attribute if np.ndim(attribute) == 0 else np.ravel(attribute).item()


def _of_text(attribute: str) -> float:
    try:
        return float(attribute)
    except ValueError as error:
        raise UserError(
            f"A scale_factor or add_offset is the text `{attribute}`, no number. Write it as one."
        ) from error


def _missing(given: Iterable[Any], stored: np.dtype[Any]) -> tuple[Any, ...]:
    """Those that the stored dtype can hold; NaN is missing of itself, and text is no value."""
    kept: list[Any] = []
    values = [value for some in given for value in np.ravel(np.asarray(some)).tolist()]
    for value in values:
        if isinstance(value, str):
            continue
        if isinstance(value, float) and np.isnan(value):
            continue
        if stored.kind in "iu" and not np.iinfo(stored).min <= value <= np.iinfo(stored).max:
            if stored.kind != "u" or value != int(value) or value >= 0:
                continue
            value += 2 ** (8 * stored.itemsize)  # a signed attribute of unsigned values
        with np.errstate(over="ignore"):
            kept.append(np.asarray(value).astype(stored)[()])
    return tuple(dict.fromkeys(kept))
