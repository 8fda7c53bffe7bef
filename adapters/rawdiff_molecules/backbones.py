"""Backbones of proteins as samples: coordinates of N, CA, C and O, one residue after another."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from rawdiff.data.dataset import Array, Batch, DataInfo, Draw, Sample
from rawdiff.data.geometry import Geometry
from rawdiff_molecules.entry import BACKBONE, Chain
from rawdiff_molecules.folds import FOLDS, fold_class
from rawdiff_molecules.motion import RigidMotion, to_channels, to_points, uniform_rotations
from rawdiff_molecules.residues import Residues, place_names
from rawdiff_molecules.stretches import Stretches

AtomName = Literal["N", "CA", "C", "O"]


class Backbones(Stretches):
    """Chains of residues, centred; in training turned at random.

    x [3 A, max_length] are x, y and z of the A atoms of each residue in Angstrom, NaN where an atom
    is missing and beyond the chain's end; the length is told as a scalar.
    """

    atoms: tuple[AtomName, ...] = Field(default=("N", "CA", "C", "O"), min_length=1)
    """Atoms of each residue that are learned."""
    label: Literal["none", "fold"] = "none"
    """`fold` makes classes of the chains' secondary structure: mainly helices, mainly strands,
    both, or few of either."""

    @property
    def info(self) -> DataInfo:
        channels = tuple(f"{atom}.{axis}" for atom in self.atoms for axis in "xyz")
        return DataInfo(
            shape=(len(channels), self.max_length),
            channels=channels,
            units=("angstrom",) * len(channels),
            class_names=FOLDS if self.label == "fold" else (),
            scalar_names=("length",),
            writer="backbones",
            evaluators=("backbones",),
            coordinates={"chain": (0.0,)} if self._together else {},
            place_names=place_names(chains=self._together),
            sizes_vary=True,
        )

    @property
    def _together(self) -> bool:
        return self.chains == "together"

    @property
    def geometry(self) -> Geometry:
        return RigidMotion()

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        """Each sample turned by a rotation of its own, uniform over all; never mirrored."""
        points = to_points(batch.x) @ uniform_rotations(draw)
        return replace(batch, x=to_channels(points, batch.x.shape))

    def sample(self, chain: Chain, part: slice) -> Sample:
        residues = Residues.of(chain, part)
        atoms = [BACKBONE.index(atom) for atom in self.atoms]
        points = chain.backbone[part][:, atoms]
        x = np.full((len(atoms) * 3, self.max_length), np.nan, dtype=np.float32)
        x[:, : len(residues)] = centred(points).reshape(len(residues), -1).T
        length = np.array([len(residues)], dtype=np.float32)
        place = residues.place(self.max_length, chains=self._together)
        label = None
        if self.label == "fold":
            label = fold_class(chain.backbone[part, BACKBONE.index("CA")], residues.residue)
        return Sample(x=x, label=label, scalars=length, place=place)


def centred(points: Array) -> Array:
    """Atoms [L, A, 3], their mean at 0, taken in float64; NaN where missing."""
    known = points[~np.isnan(points).any(-1)].astype(np.float64)
    return points - known.mean(0) if len(known) else points
