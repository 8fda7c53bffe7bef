"""Atoms of a molecule that stay while the rest of it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.template import RealSamples, Template, Wanted
from rawdiff.errors import UserError
from rawdiff_molecules.elements import SYMBOLS
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.files import find_files, read_file, suffixes
from rawdiff_molecules.lattice import Lattice, voxelize
from rawdiff_molecules.reading import Reading


class FragmentTemplate(Template):
    """The first molecule of a file as a part of the one that is drawn."""

    path: Path
    """The file (SDF, XYZ)."""
    atoms: tuple[int, ...] | None = Field(default=None, min_length=1)
    """Those that belong to the part, numbered from 0 (default: all): leave out a hydrogen where
    something is to grow. [atoms]"""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where its middle lies from that of the box, along x, y and z. [Angstrom]"""
    reach: float = Field(default=0.8, ge=0)
    """How far from its atoms the density stays what it is; 0 keeps nothing, for a `sample.start`
    above 0. [Angstrom]"""

    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        lattice = Lattice.of(info)
        rows = self._rows(lattice)
        density = voxelize(torch.from_numpy(rows[None]), lattice)[0].numpy()
        near = self._distance(rows[:, :3], lattice) <= self.reach
        return Wanted(density, np.broadcast_to(near & (self.reach > 0), info.shape).copy())

    def _rows(self, lattice: Lattice) -> Array:
        """x, y, z and channel of each atom [n, 4]. UserError where it has none, or lies outside."""
        molecule = self._molecule
        chosen = list(range(len(molecule.elements))) if self.atoms is None else list(self.atoms)
        if outside := [i for i in chosen if not 0 <= i < len(molecule.elements)]:
            raise UserError(
                f"`atoms` {outside} are not among the {len(molecule.elements)} of {self.path}, "
                "which count from 0."
            )
        points = molecule.positions[chosen]
        points = (
            points - (points.min(0) + points.max(0)) / 2 + np.asarray(self.offset, dtype=np.float32)
        )
        symbols = [SYMBOLS[number] for number in molecule.elements[chosen]]
        if unknown := sorted(set(symbols) - set(lattice.elements)):
            raise UserError(
                f"{self.path} has {', '.join(unknown)}, but the model was trained on "
                f"{', '.join(lattice.elements)} alone."
            )
        if (np.abs(points) > np.array(lattice.half_box)).any():
            raise UserError(
                f"Atoms of {self.path} lie outside the box of "
                f"{' x '.join(f'{2 * half:g}' for half in lattice.half_box)} Angstrom. Turn the "
                "fragment, change `offset`, or name fewer `atoms`."
            )
        channels = [lattice.elements.index(symbol) for symbol in symbols]
        return np.column_stack([points, channels]).astype(np.float32)

    def _distance(self, points: Array, lattice: Lattice) -> Array:
        """Of each voxel to the nearest atom, in Angstrom: [X, Y, Z]."""
        axes = (np.asarray(values, np.float32) for values in lattice.coordinates.values())
        voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        nearest = np.full(voxels.shape[:3], np.inf, dtype=np.float32)
        for point in points:
            nearest = np.minimum(nearest, np.linalg.norm(voxels - point, axis=-1))
        return nearest

    @cached_property
    def _molecule(self) -> Molecule:
        file = find_files(self.path, suffixes("molecules", None))[0]
        entries = read_file(file, "molecules", Reading())
        found = next((entry for entry in entries if isinstance(entry, Molecule)), None)
        if found is None:
            raise UserError(f"{self.path} holds no molecule that can be read.")
        return found
