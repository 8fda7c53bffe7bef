"""What decides whether molecules fit a lattice: their elements and how far they reach."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff_molecules.elements import SYMBOLS
from rawdiff_molecules.ragged import Entries

NUM_AT_ONCE = 8192


@dataclass(frozen=True)
class Survey:
    """Of all E molecules of a file; distances in Angstrom from the mean of a molecule's atoms.

    `counts` [119] are the atoms of each element. `reach` [E] is the distance of the furthest atom,
    `extent` [E, 3] how far atoms reach along each principal axis, the longest first. `has_others`
    [E]: whether there are atoms of elements that were not asked for.
    """

    counts: Array
    reach: Array
    extent: Array
    has_others: Array


def survey(entries: Entries, elements: Collection[int]) -> Survey:
    """Reads all molecules once. `elements` are the atomic numbers that are asked for."""
    parts = [
        _survey_some(entries, range(start, min(start + NUM_AT_ONCE, len(entries))), elements)
        for start in range(0, len(entries), NUM_AT_ONCE)
    ]
    counts, *others = zip(*parts, strict=True)
    return Survey(np.sum(counts, axis=0), *(np.concatenate(arrays) for arrays in others))


def _survey_some(
    entries: Entries, indices: range, elements: Collection[int]
) -> tuple[Array, Array, Array, Array]:
    molecules = entries.molecules(indices)
    sizes = np.array([len(molecule.elements) for molecule in molecules])
    first = np.cumsum(sizes) - sizes
    numbers = np.concatenate([molecule.elements for molecule in molecules])
    points = np.concatenate([molecule.positions for molecule in molecules]).astype(np.float64)
    middles = np.add.reduceat(points, first) / sizes[:, None]
    points -= np.repeat(middles, sizes, axis=0)
    axes = principal_axes(np.add.reduceat(points[:, :, None] * points[:, None], first))
    along = np.einsum("ai,aij->aj", points, np.repeat(axes, sizes, axis=0))
    is_other = ~np.isin(numbers, list(elements))
    return (
        np.bincount(numbers, minlength=len(SYMBOLS)),
        np.maximum.reduceat(np.linalg.norm(points, axis=1), first),
        np.maximum.reduceat(np.abs(along), first),
        np.logical_or.reduceat(is_other, first),
    )


def principal_axes(moments: Array) -> Array:
    """Second moments [..., 3, 3] of centred points to axes [..., 3, 3], used as `points @ axes`.

    The longest axis first; a proper rotation. The signs of two axes are arbitrary.
    """
    axes = np.linalg.eigh(moments)[1][..., ::-1]
    hand = np.sign(np.linalg.det(axes))
    return axes * np.stack([np.ones_like(hand), np.ones_like(hand), hand], -1)[..., None, :]


def centred(positions: Array) -> Array:
    """Atoms [n, 3] with their mean at 0, float64."""
    return positions - positions.mean(0, dtype=np.float64)


def laid(points: Array) -> Array:
    """Centred atoms [n, 3] in the one pose that they define by themselves.

    The longest axis along x, the shortest along z; of the four poses in which a half turn may bring
    them, the one with positive third moments along x and y.
    """
    along = points @ principal_axes(points.T @ points)
    x, y = np.where((along[:, :2] ** 3).sum(0) < 0, -1, 1)
    return along * np.array([x, y, x * y])
