"""What scores of molecules need to know of each one: rows of fixed width, so that they can be kept.

`elements` [K] and `positions` [K, 3] are of its atoms, `valences` [K] their sums of bond orders,
`bonds` [M, 3] (atom, atom, order); 0 and -1 fill up. Of a molecule with more than K atoms the first
ones are kept, and no bonds. `num_atoms`, `num_stable` and `num_fragments` count all. `how` is the
place in HOW. `rings` [8] counts rings of 3, 4, … 9 and more than 9 atoms. `strain` is in kcal/mol,
NaN where unknown. `identity` is a hash of the SMILES without stereo, -1 for none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rawdiff.data.dataset import Array
from rawdiff_molecules.bonds import Bonded, find_bonds
from rawdiff_molecules.internal import AROMATIC
from rawdiff_molecules.rdkit_library import rdkit
from rawdiff_molecules.stability import kekulized, stable_atoms, valences

HOW = ("nothing", "atoms", "distances", "ion", "neutral")
"""From worst to best: no atoms were decoded; atoms without bonds; and see `bonds.How`."""

RING_SIZES = range(3, 11)  # the last stands for larger ones, too
MAX_RELAXATIONS = 200  # steps of the minimizer; it ends, at the same place anywhere


class Positioned(NamedTuple):
    """Atomic numbers [n] and positions [n, 3] in Angstrom."""

    elements: Array
    positions: Array


def features(molecules: Sequence[Positioned], num_slots: int, *, ions: bool) -> dict[str, Tensor]:
    """Rows [n, …] of molecules, K = num_slots and M = 2 K. Strain is of connected ones alone."""
    rows = [_row(molecule, num_slots, ions) for molecule in molecules]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def _row(molecule: Positioned, num_slots: int, ions: bool) -> dict[str, Any]:
    """Numbers and arrays of numpy."""
    bonded = find_bonds(molecule.elements, molecule.positions)
    stable = stable_atoms(bonded, ions=ions)
    found = bonded.how in (("neutral", "ion") if ions else ("neutral",))
    num_atoms = len(molecule.elements)
    how = "nothing" if not num_atoms else bonded.how or "atoms"
    return {
        "num_atoms": np.int32(num_atoms),
        "num_stable": np.int32(stable.sum()),
        "num_fragments": np.int32(bonded.num_fragments),
        "how": np.uint8(HOW.index(how)),
        "identity": np.int64(identity(bonded.molecule) if found else -1),
        "rings": _rings(bonded.molecule) if found else np.zeros(len(RING_SIZES), np.uint8),
        "strain": np.float32(strain(bonded) if found else np.nan),
        **_graph(molecule, bonded, num_slots),
    }


def _graph(molecule: Positioned, bonded: Bonded, num_slots: int) -> dict[str, Array]:
    elements = np.zeros(num_slots, np.uint8)
    positions = np.zeros((num_slots, 3), np.float32)
    sums = np.zeros(num_slots, np.uint8)
    bonds = np.full((2 * num_slots, 3), -1, np.int16)
    kept = slice(min(len(molecule.elements), num_slots))
    elements[kept] = molecule.elements[kept]
    positions[kept] = molecule.positions[kept]
    if bonded.molecule is not None:
        sums[kept] = valences(kekulized(bonded))[kept]
        found = _bonds(bonded.molecule)
        if len(molecule.elements) <= num_slots and len(found) <= len(bonds):
            bonds[: len(found)] = found
    return {"elements": elements, "positions": positions, "valences": sums, "bonds": bonds}


def _bonds(molecule: Any) -> Array:
    """(atom, atom, order) [m, 3]."""
    rows = [
        (
            bond.GetBeginAtomIdx(),
            bond.GetEndAtomIdx(),
            AROMATIC if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble()),
        )
        for bond in molecule.GetBonds()
    ]
    return np.array(rows, dtype=np.int16).reshape(-1, 3)


def smiles(molecule: Any, *, stereo: bool) -> str:
    """Canonical, without the hydrogen that follows from the rest."""
    chem = rdkit().chem
    with rdkit().base.BlockLogs():
        return str(chem.MolToSmiles(chem.RemoveHs(molecule), isomericSmiles=stereo))


def identity(molecule: Any) -> int:
    """63 bits of a hash of the SMILES: two molecules of one set of a million hardly share one."""
    digest = hashlib.blake2b(smiles(molecule, stereo=False).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _rings(molecule: Any) -> Array:
    counts = np.zeros(len(RING_SIZES), dtype=np.uint8)
    for ring in molecule.GetRingInfo().AtomRings():
        counts[min(len(ring), RING_SIZES[-1]) - RING_SIZES[0]] += 1
    return counts


def strain(bonded: Bonded) -> float:
    """MMFF94 energy in kcal/mol above the nearest minimum; NaN for fragments or unknown atoms.

    (Halgren 1996)
    """
    fields = rdkit().force_fields
    if bonded.num_fragments != 1 or bonded.how == "distances":
        return np.nan
    molecule = rdkit().chem.Mol(bonded.molecule)
    with rdkit().base.BlockLogs():
        properties = fields.MMFFGetMoleculeProperties(molecule)
        field = properties and fields.MMFFGetMoleculeForceField(molecule, properties)
        if not field:
            return np.nan
        try:
            energy = field.CalcEnergy()
            field.Minimize(maxIts=MAX_RELAXATIONS)
        except RuntimeError:  # positions that a force field cannot follow
            return np.nan
    return float(energy - field.CalcEnergy())
