"""A pocket of a protein of one's own, in which molecules are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.template import RealSamples, Template, Wanted
from rawdiff.errors import UserError
from rawdiff_molecules.files import find_files
from rawdiff_molecules.lattice import AXES
from rawdiff_molecules.pocket import Pocket, read_protein
from rawdiff_molecules.structures import TABLES


class PocketTemplate(Template):
    """The protein around a place, into which molecules are drawn.

    In training the place is the mean of a molecule's atoms, hydrogens too where they are drawn,
    give or take what it was moved by. Of the file the protein alone counts, not the ligand that may
    be in it. Samples are written in the coordinates of the file.
    """

    path: Path
    """The file of the protein (PDB, mmCIF, BinaryCIF)."""
    centre: tuple[float, float, float]
    """x, y and z of the place. [Angstrom]"""

    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        pocket = Pocket.of(info)
        elements, positions = self._protein
        rows = pocket.rows(elements, positions - np.array(self.centre), pocket.reach)
        if not len(rows):
            middle = ", ".join(f"{x:.1f}" for x in positions.mean(0))
            raise UserError(
                f"No atom of {', '.join(pocket.radii)} of the protein in {self.path} lies within "
                f"{pocket.reach:.1f} Angstrom of `centre`. It is in the coordinates of that file; "
                f"the middle of the protein is [{middle}]."
            )
        return Wanted(context=pocket.voxelize(torch.from_numpy(rows[None]))[0].numpy())

    def placed(self, info: DataInfo) -> DataInfo:
        moved = {
            axis: tuple(value + at for value in info.coordinates[axis])
            for axis, at in zip(AXES, self.centre, strict=True)
        }
        return replace(info, coordinates=moved)

    @cached_property
    def _protein(self) -> tuple[Array, Array]:
        """Elements and positions of its heavy atoms."""
        try:
            return read_protein(find_files(self.path, tuple(TABLES))[0])
        except UserError as error:
            raise UserError(f"{self.path}: {error}.") from error
