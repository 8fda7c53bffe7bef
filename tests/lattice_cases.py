"""Molecules for tests of densities: as samples that hold their atoms, and as files."""

from pathlib import Path

import numpy as np
import torch
from rawdiff_molecules.lattice import Lattice
from rawdiff_molecules.molecules import Molecules
from torch import Tensor

QM9 = ("C", "H", "N", "O")
METHANE = [("C", 0, 0, 0), *[("H", *(0.629 * s for s in signs)) for signs in
           [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]]]  # fmt: skip
ETHYNE = [("C", -0.6, 0, 0), ("C", 0.6, 0, 0), ("H", -1.66, 0, 0), ("H", 1.66, 0, 0)]
WATER = [("O", 0, 0, 0.12), ("H", 0, 0.76, -0.48), ("H", 0, -0.76, -0.48)]


def qm9_lattice(num_voxels: int = 32, spacing: float = 0.4, radius: float = 0.5) -> Lattice:
    return Lattice((num_voxels,) * 3, spacing, radius, QM9)


def stored(molecules: list[list[tuple]], lattice: Lattice) -> Tensor:
    """As samples [B, A, 4], not centred."""
    x = np.full((len(molecules), max(map(len, molecules)), 4), np.nan, dtype=np.float32)
    for row, atoms in zip(x, molecules, strict=True):
        row[: len(atoms), :3] = [atom[1:] for atom in atoms]
        row[: len(atoms), 3] = [lattice.elements.index(atom[0]) for atom in atoms]
    return torch.from_numpy(x)


def packed_molecules(folder: Path, molecules: list[list[tuple]], **settings) -> Molecules:
    """The dataset of an XYZ file of them."""
    frames = [
        "\n".join([str(len(atoms)), f"m{i}", *(" ".join(map(str, atom)) for atom in atoms)])
        for i, atoms in enumerate(molecules)
    ]
    path = folder / "molecules.xyz"
    path.write_text("\n".join(frames) + "\n")
    raw = Molecules(path=str(path), **settings)
    raw.pack(folder / "packed", lambda done, of: None)
    packed = raw.packed(folder / "packed")
    assert isinstance(packed, Molecules)
    return packed
