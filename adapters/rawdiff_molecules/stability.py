"""Which valences atoms can have, and which atoms of a molecule have one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff_molecules.bonds import Bonded
from rawdiff_molecules.rdkit_library import rdkit

VALENCES: dict[str, dict[int, tuple[int, ...]]] = {
    "H": {0: (1,)},
    "B": {0: (3,), -1: (4,)},
    "C": {0: (4,)},
    "N": {0: (3,), 1: (4,), -1: (2,)},
    "O": {0: (2,), 1: (3,), -1: (1,)},
    "F": {0: (1,), -1: (0,)},
    "Si": {0: (4,)},
    "P": {0: (3, 5), 1: (4,)},
    "S": {0: (2, 4, 6), 1: (3, 5), -1: (1,)},
    "Cl": {0: (1,), -1: (0,)},
    "As": {0: (3, 5)},
    "Se": {0: (2, 4, 6)},
    "Br": {0: (1,), -1: (0,)},
    "I": {0: (1, 3, 5), -1: (0,)},
}
"""Sums of bond orders by element and formal charge. All bonds count, also to hydrogen, and those of
aromatic rings as single or double: a sum of orders 1.5 that is rounded lets wrong atoms pass."""

ISONITRILE = (-1, 3)  # C with a triple bond to N+ or O+, and with nothing else


def kekulized(bonded: Bonded) -> Any:
    """A copy whose bonds are single, double or triple; as it is where nothing is aromatic."""
    molecule = rdkit().chem.Mol(bonded.molecule)
    if bonded.how != "distances":
        rdkit().chem.Kekulize(molecule, clearAromaticFlags=True)
    return molecule


def valences(molecule: Any) -> Array:
    """The sum of bond orders [n] of each atom of a kekulized molecule, int64."""
    found = np.zeros(molecule.GetNumAtoms(), dtype=np.int64)
    for bond in molecule.GetBonds():
        order = int(bond.GetBondTypeAsDouble())
        found[bond.GetBeginAtomIdx()] += order
        found[bond.GetEndAtomIdx()] += order
    return found


def stable_atoms(bonded: Bonded, *, ions: bool = False) -> Array:
    """Which atoms [n] have a valence that they can have, bool; without a molecule none, [0].

    In an ion its charged atoms are not stable, unless `ions` are wanted: a neutral molecule that
    lost an atom can be read as one.
    """
    if bonded.molecule is None:
        return np.zeros(0, dtype=bool)
    molecule = kekulized(bonded)
    charges_count = ions or bonded.how != "ion"
    return np.array(
        [
            _can_be(atom, int(valence)) and (charges_count or atom.GetFormalCharge() == 0)
            for atom, valence in zip(molecule.GetAtoms(), valences(molecule), strict=True)
        ]
    )


def _can_be(atom: Any, valence: int) -> bool:
    symbol, charge = atom.GetSymbol(), atom.GetFormalCharge()
    if symbol == "C" and (charge, valence) == ISONITRILE:
        return atom.GetDegree() == 1
    return valence in VALENCES.get(symbol, {}).get(charge, ())
