"""Bond lengths, angles, torsions and valences of many molecules at once, by type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rawdiff.data.dataset import Array

AROMATIC = 4
"""Its number among bond orders; 1 to 3 are those of other bonds, as in an entry's `bonds`."""

ByType: TypeAlias = dict[tuple[int, ...], Array]
"""Values [k] of each type, which is told by atomic numbers and a bond order."""


@dataclass(frozen=True)
class Atoms:
    """All atoms of many molecules in one row, as a graph.

    `elements` [A] are atomic numbers, `positions` [A, 3] in Angstrom, `bonds` [m, 3] are (atom,
    atom, order) with the place of atoms in the row. No bond is there twice.
    """

    elements: Array
    positions: Array
    bonds: Array

    @classmethod
    def of(cls, elements: Array, positions: Array, bonds: Array) -> Atoms:
        """From molecules [n, K], [n, K, 3], [n, M, 3]; 0 and -1 mark no element and no bond."""
        there = elements > 0
        place = np.cumsum(there).reshape(there.shape) - 1
        molecule, row = np.nonzero(bonds[..., 0] >= 0)
        found = bonds[molecule, row].astype(np.int64)
        ends = place[molecule[:, None], found[:, :2]]
        return cls(
            elements[there].astype(np.int64),
            positions[there].astype(np.float64),
            np.column_stack([ends, found[:, 2]]),
        )

    def neighbours(self) -> Array:
        """[A, D]: the atoms bound to each, -1 where it has fewer than D, the largest number."""
        ends = np.concatenate([self.bonds[:, :2], self.bonds[:, 1::-1]])
        ends = ends[np.argsort(ends[:, 0], kind="stable")]
        counts = np.bincount(ends[:, 0], minlength=len(self.elements))
        table = np.full((len(self.elements), max(1, counts.max(initial=0))), -1, dtype=np.int64)
        first = np.cumsum(counts) - counts
        table[ends[:, 0], np.arange(len(ends)) - first[ends[:, 0]]] = ends[:, 1]
        return table


def bond_lengths(atoms: Atoms) -> ByType:
    """Angstrom, by (element, element, order), the smaller element first."""
    i, j, order = atoms.bonds.T
    lengths = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    pair = np.sort(atoms.elements[atoms.bonds[:, :2]], axis=1)
    return _by_type(np.column_stack([pair, order]), lengths)


def bond_angles(atoms: Atoms) -> ByType:
    """Degrees between two bonds of one atom, by the element of that atom."""
    table = atoms.neighbours()
    first, second = np.triu_indices(table.shape[1], 1)
    a, c = table[:, first], table[:, second]
    centre, pair = np.nonzero((a >= 0) & (c >= 0))
    a, c = a[centre, pair], c[centre, pair]
    x = atoms.positions
    return _by_type(atoms.elements[centre][:, None], _angle(x[a] - x[centre], x[c] - x[centre]))


def torsions(atoms: Atoms) -> ByType:
    """Degrees from 0 to 180 about each bond that is in no triangle with its ends, unsigned.

    By (element, element, order) of the bond in the middle. A molecule and its mirror image have
    the same ones. Torsions whose atoms lie in a line have none.
    """
    table, x = atoms.neighbours(), atoms.positions
    b, c, order = atoms.bonds.T
    D = table.shape[1]
    a = np.repeat(table[b], D, axis=1)  # [m, D * D]
    d = np.tile(table[c], (1, D))
    good = (a >= 0) & (d >= 0) & (a != c[:, None]) & (d != b[:, None]) & (a != d)
    bond, pair = np.nonzero(good)
    a, d, b, c, order = a[bond, pair], d[bond, pair], b[bond], c[bond], order[bond]
    middle = x[c] - x[b]
    left, right = np.cross(middle, x[a] - x[b]), np.cross(middle, x[d] - x[c])
    sizes = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    bent = sizes > 1e-3 * (middle**2).sum(1)
    pairs = np.sort(np.column_stack([atoms.elements[b], atoms.elements[c]]), axis=1)
    kinds = np.column_stack([pairs, order])
    return _by_type(kinds[bent], _angle(left[bent], right[bent]))


def _angle(u: Array, v: Array) -> Array:
    """Degrees [n] between vectors [n, 3], exact near 0 and 180, too."""
    crossed = np.linalg.norm(np.cross(u, v), axis=1)
    return np.degrees(np.arctan2(crossed, (u * v).sum(1)))


def _by_type(kinds: Array, values: Array) -> ByType:
    """Values [n] of kinds [n, k], each number of which is below 256."""
    codes = kinds @ 256 ** np.arange(kinds.shape[1])[::-1]
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    parts = np.split(values[order], first[1:])
    return {tuple(kinds[order[i]].tolist()): part for i, part in zip(first, parts, strict=False)}
