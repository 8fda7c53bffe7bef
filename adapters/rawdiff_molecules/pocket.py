"""The protein around a molecule as densities of its own: which of its atoms, and how wide."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.errors import UserError
from rawdiff_molecules.elements import SYMBOLS, element_number
from rawdiff_molecules.files import File, open_bytes
from rawdiff_molecules.lattice import Lattice, densities
from rawdiff_molecules.residue_atoms import group_residues
from rawdiff_molecules.structures import TABLES, protein_of

PocketElement: TypeAlias = Literal["C", "N", "O", "S", "P", "Se"]
VAN_DER_WAALS: Mapping[str, float] = {
    "C": 1.70,
    "N": 1.55,
    "O": 1.52,
    "S": 1.80,
    "P": 1.80,
    "Se": 1.90,
}
"""Radii in Angstrom. (Bondi 1964)"""
NUM_WIDTHS = 2.5  # beyond which an atom gives nothing: 0.002
MEANING = "pocket"


@dataclass(frozen=True)
class Pocket:
    """Channels of a protein around a molecule, on the `lattice` of that molecule.

    `radii` are those of atoms of each element, in Angstrom.
    """

    radii: Mapping[str, float]
    lattice: Lattice

    @classmethod
    def of(cls, info: DataInfo) -> Pocket:
        """That of such data. UserError unless they have pockets."""
        lattice = Lattice.of(info)
        if MEANING not in info.meaning:
            raise UserError(
                "This model was trained without pockets, and cannot draw into one. Train one with "
                "`data.pockets`."
            )
        parts = (text.split() for text in info.meaning[MEANING].split(", "))
        return cls({symbol: float(radius) for symbol, radius in parts}, lattice)

    @property
    def meaning(self) -> Mapping[str, str]:
        """What `of` reads back, beside what the lattice does."""
        return {MEANING: ", ".join(f"{name} {radius:g}" for name, radius in self.radii.items())}

    @property
    def reach(self) -> float:
        """How far from the middle of the box an atom may matter, in Angstrom."""
        widths = (replace(self.lattice, radius=radius).width for radius in self.radii.values())
        return math.hypot(*self.lattice.half_box) + NUM_WIDTHS * max(widths)

    def rows(self, elements: Array, points: Array, reach: float) -> Array:
        """x, y, z and channel of each atom that has one, float32 [n, 4].

        elements [a] are atomic numbers; points [a, 3] count within `reach` of the origin.
        """
        channels = np.full(len(SYMBOLS), -1, dtype=np.int64)
        channels[[element_number(symbol) for symbol in self.radii]] = range(len(self.radii))
        own = channels[elements]
        chosen = (own >= 0) & (np.linalg.norm(points, axis=-1) <= reach)
        return np.column_stack([points[chosen], own[chosen]]).astype(np.float32)

    def voxelize(self, atoms: Tensor) -> Tensor:
        """Atoms [B, A, 4] = (x, y, z, channel), NaN rows for none, to [B, C', X, Y, Z]."""
        points = atoms[..., :3].nan_to_num(0.0)
        parts = []
        for channel, (symbol, radius) in enumerate(self.radii.items()):
            heights = (atoms[..., 3:] == channel).float()  # NaN is no channel
            own = replace(self.lattice, radius=radius, elements=(symbol,))
            parts.append(densities(points, heights, own))
        return torch.cat(parts, dim=1)


def read_protein(file: File) -> tuple[Array, Array]:
    """Elements uint8 [n] and positions [n, 3] of the heavy atoms of a structure's protein.

    Of the first model, each residue with one conformation. Water, ions and ligands, among them the
    one that belongs into the pocket, are no protein. UserError where there is none.
    """
    try:
        with open_bytes(file.path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"its structure file is damaged: {error}") from error
    table = next((table for _, table in TABLES[file.suffix](content) if len(table)), None)
    if table is None:
        raise UserError("there are no atoms in its structure file")
    first = table.take(np.flatnonzero(table.models == table.models[0]))
    atoms = protein_of(group_residues(first)[0])[0].atoms
    if not len(atoms):
        raise UserError("no protein is in its structure file")
    if not np.isfinite(atoms.positions).all():
        raise UserError("a coordinate of its structure file is not a finite number")
    if not atoms.elements.all():
        raise UserError("an element in its structure file is unknown")
    heavy = atoms.elements > 1
    return atoms.elements[heavy], atoms.positions[heavy]
