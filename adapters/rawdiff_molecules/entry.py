"""What a file of molecules holds, once it is read: molecules and chains, in Angstrom."""

from __future__ import annotations

from dataclasses import dataclass

from rawdiff.data.dataset import Array

BACKBONE = ("N", "CA", "C", "O")
"""The atoms of a residue that make the backbone of a protein, in the order in which they stand."""


@dataclass(frozen=True)
class Molecule:
    """A small molecule of n atoms.

    `elements` [n] are atomic numbers (uint8), `positions` [n, 3] float32. `bonds` [m, 3] are
    (atom, atom, order) with order 4 for aromatic ones; None where the file does not say.
    """

    id: str
    source: str
    elements: Array
    positions: Array
    charge: int = 0
    bonds: Array | None = None


@dataclass(frozen=True)
class Chain:
    """R residues of a protein, of one chain or of several that belong together.

    Of each residue: `names` (three letters), `numbers` (the author's, int32) with
    `insertion_codes` (" " for none), `index` (int32: the place along its chain, where a residue
    that is missing leaves a gap; ascending within a chain), `chain_ids` (the author's). `backbone`
    [R, 4, 3] float32 are N, CA, C and O, NaN where missing.

    All atoms of residue r are atom_offsets[r] … atom_offsets[r + 1] - 1 of `atom_names`,
    `elements` (atomic numbers) and `positions` [A, 3]. A file of backbones alone has none.
    """

    id: str
    source: str
    names: Array
    numbers: Array
    insertion_codes: Array
    index: Array
    chain_ids: Array
    backbone: Array
    atom_offsets: Array
    atom_names: Array
    elements: Array
    positions: Array
