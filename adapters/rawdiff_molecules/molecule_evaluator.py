"""Scores of generated molecules, from their densities."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, FeatureEvaluator, Features, Goal
from rawdiff_molecules import molecule_scores
from rawdiff_molecules.decode import decode
from rawdiff_molecules.features import Positioned, features
from rawdiff_molecules.lattice import Lattice
from rawdiff_molecules.rdkit_library import rdkit

MAX_ATOMS = 256

GOALS: dict[str, Goal] = {
    "": "high",
    "decoded": "high",
    "connected": "high",
    "validity": "high",
    "ions": "oracle",
    "atom_stability": "high",
    "molecule_stability": "high",
    "uniqueness": "high",
    "novelty": "oracle",
    "strain": "oracle",
    "num_atoms_w1": "low",
    "element_tv": "low",
    "valence_w1": "low",
    "ring_size_tv": "low",
    "bond_length_w1": "low",
    "bond_angle_w1": "low",
    "torsion_w1": "low",
}
"""All scores, and what is better."""


class MoleculeEvaluator(FeatureEvaluator):
    """Share of samples that are one valid molecule; higher is better.

    Atoms are decoded from densities and bonds found by RDKit. Of all samples, `decoded` is the
    share with atoms, `connected` that with one fragment, `validity` that with bond orders of a
    neutral molecule that RDKit sanitizes, and `ions` that where only a charge of +1 or -1 gives
    orders. `molecule_stability` is the share where every atom has a valence that it can have, and
    `atom_stability` that of atoms.

    Of the valid molecules of one fragment `uniqueness` is the share of different ones, `novelty`
    that of these which are not in the training data, and `strain` the median of their MMFF94
    energy in kcal/mol above the nearest minimum.

    Beside the training data stand `element_tv`, `ring_size_tv` (total variation of shares) and
    distances W_1 of `num_atoms_w1` (atoms), `valence_w1` (bonds), `bond_length_w1` (Angstrom),
    `bond_angle_w1` and `torsion_w1` (degrees). The last four are means over types of atoms and
    bonds, weighted by their numbers in the training data. (Vignac et al. 2023, arXiv 2302.09048)
    """

    by_default: ClassVar[bool] = False

    num_samples: int = Field(default=1000, ge=2)
    """Samples that are drawn, with labels in turn. [samples]"""
    ions: bool = False
    """Counts as valid, too, what has bond orders only with a charge of +1 or -1."""

    def goal(self, key: str) -> Goal:
        return GOALS[key]

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return tuple(GOALS)

    def obstacle(self, basis: Basis) -> str | None:
        try:
            Lattice.of(basis.info)
        except UserError as error:
            return str(error)
        return None

    def origin(self) -> dict[str, Any]:
        return super().origin() | {"rdkit": rdkit().base.rdkitVersion}

    def features(
        self, batch: Tensor, basis: Basis, place: Tensor | None = None
    ) -> dict[str, Tensor]:
        decoded = decode(batch, basis.info)
        molecules = [Positioned(one.elements, one.positions) for one in decoded]
        return features(molecules, num_slots(basis.info), ions=self.ions)

    def score(self, features: Features, reference: Features, basis: Basis) -> dict[str, float]:
        both = features, reference
        found = molecule_scores.shares(features, ions=self.ions)
        found |= molecule_scores.identities(*both, ions=self.ions)
        found |= molecule_scores.median_strain(features)
        found |= molecule_scores.distances(*both, ions=self.ions)
        return {key: found[key] for key in GOALS if key in found}


def num_slots(info: DataInfo) -> int:
    """For how many atoms of a sample there is room: twice as many as any molecule of the data has.

    One that decodes to more is no molecule of their kind. Densities that are not stored as atoms do
    not say how many they have.
    """
    return MAX_ATOMS if info.stored_shape is None else 2 * info.stored_shape[0]
