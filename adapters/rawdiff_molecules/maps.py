"""Density maps in MRC and CCP4 files: values along x, y and z, however the file orders its axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff_molecules.optional import require_gemmi

# Words of the header, counted from 1 (Cheng et al. 2015, MRC2014).
START, NUM_IN_CELL, CELL, ANGLES, ORDER, ORIGIN = 5, 8, 11, 14, 17, 50
RIGHT_ANGLE = 90.0


@dataclass(frozen=True)
class DensityMap:
    """`values` float32 [X, Y, Z] at voxels of `spacing` (x, y, z) Angstrom; the centre of the first
    one lies at `origin` (x, y, z)."""

    values: Array
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]


def read_map(path: Path) -> DensityMap:
    """An MRC or CCP4 map, packed by gzip or not.

    UserError for a file that cannot be read, and for a cell without right angles.
    """
    gemmi = require_gemmi()
    if not path.is_file():
        raise UserError(f"There is no map {path}.")
    try:
        found = gemmi.read_ccp4_map(str(path))
    except (RuntimeError, ValueError, OSError, MemoryError) as error:
        raise UserError(
            f"{path} is no density map that can be read: {error}. Maps are MRC or CCP4 files "
            "(.mrc, .map, .ccp4), packed by gzip or not."
        ) from error
    order = [found.header_i32(ORDER + i) - 1 for i in range(3)]  # the axis of column, row, section
    _require_boxes(path, found)
    values = np.array(found.grid, dtype=np.float32).transpose(np.argsort(order))
    start = [0] * 3
    for i, axis in enumerate(order):
        start[axis] = found.header_i32(START + i)
    lengths = [found.header_float(CELL + i) for i in range(3)]
    nums = [found.header_i32(NUM_IN_CELL + i) or values.shape[i] for i in range(3)]
    spacing = [length / num for length, num in zip(lengths, nums, strict=True)]
    origin = [found.header_float(ORIGIN + i) for i in range(3)]
    if not any(origin):  # files of crystallography count voxels instead
        origin = [step * number for step, number in zip(spacing, start, strict=True)]
    return DensityMap(np.ascontiguousarray(values), _three(spacing), _three(origin))


def write_map(path: Path, density: DensityMap) -> None:
    """As MRC2014 with axes in the order x, y, z. UserError if it cannot be written."""
    gemmi = require_gemmi()
    found = gemmi.Ccp4Map()
    found.grid = gemmi.FloatGrid(np.ascontiguousarray(density.values, dtype=np.float32))
    sizes = [n * step for n, step in zip(density.values.shape, density.spacing, strict=True)]
    found.grid.set_unit_cell(gemmi.UnitCell(*sizes, *[RIGHT_ANGLE] * 3))
    found.grid.spacegroup = gemmi.SpaceGroup("P1")
    found.update_ccp4_header(2, True)
    for i, value in enumerate(density.origin):
        found.set_header_float(ORIGIN + i, value)
    try:
        found.write_ccp4_map(str(path))
    except (RuntimeError, OSError) as error:
        raise UserError(f"{path} cannot be written: {error}.") from error


def _require_boxes(path: Path, found: Any) -> None:
    """UserError unless the file says how large its voxels are, and they are boxes."""
    angles = [found.header_float(ANGLES + i) for i in range(3)]
    if any(abs(angle - RIGHT_ANGLE) > 1e-3 for angle in angles if angle):
        raise UserError(
            f"The cell of {path} has the angles {angles}: its voxels are no boxes. Resample the "
            "map on axes at right angles."
        )
    if not all(found.header_float(CELL + i) > 0 for i in range(3)):
        raise UserError(f"{path} does not say how large its cell is; set it in the header.")


def _three(values: list[float]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
