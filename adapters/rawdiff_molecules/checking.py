"""What a molecule must have, whatever file it is from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff_molecules.elements import element_number
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.ragged import Reject


def checked_molecule(
    key: str,
    source: str,
    elements: Sequence[str],
    positions: Array,
    *,
    charge: int = 0,
    bonds: Array | None = None,
) -> Molecule | Reject:
    """Of symbols or atomic numbers, and positions [n, 3] in Angstrom."""
    numbers = np.array([element_number(element) for element in elements], np.uint8)
    if not len(numbers):
        return Reject(key, source, "no atoms")
    if not numbers.all():
        return Reject(key, source, f"unknown element {elements[int(numbers.argmin())]!r}")
    if not np.isfinite(positions).all():
        return Reject(key, source, "a coordinate is not a finite number")
    return Molecule(key, source, numbers, positions.astype(np.float32), charge, bonds)
