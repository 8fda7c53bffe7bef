"""From a table of atoms to residues: which atoms make one, and which of its alternatives stays."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff_molecules.atom_table import AtomTable
from rawdiff_molecules.entry import BACKBONE
from rawdiff_molecules.packing import LeftOut


class ResidueAtoms(NamedTuple):
    """Atoms sorted by residue; those of residue r are offsets[r] … offsets[r + 1] - 1.

    `segments` [R] rise where a chain ends or is numbered anew.
    """

    atoms: AtomTable
    offsets: Array
    segments: Array

    @property
    def first(self) -> AtomTable:
        """The first atom of each residue, for what all of its atoms share."""
        return self.atoms.take(self.offsets[:-1])

    @property
    def numbers(self) -> Array:
        """Of each atom, the residue that it is in."""
        return np.repeat(np.arange(len(self.segments)), np.diff(self.offsets))

    def take(self, chosen: Array) -> ResidueAtoms:
        """Of some residues, in their order."""
        counts = np.diff(self.offsets)[chosen]
        inside = np.isin(self.numbers, chosen)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return ResidueAtoms(self.atoms.take(np.flatnonzero(inside)), offsets, self.segments[chosen])

    def backbone(self) -> Array:
        """N, CA, C and O of each residue, [R, 4, 3]; NaN where missing."""
        positions = np.full((len(self.segments), len(BACKBONE), 3), np.nan, np.float32)
        residues = self.numbers
        for column, name in enumerate(BACKBONE):
            rows = np.flatnonzero(self.atoms.atom_names == name)
            positions[residues[rows], column] = self.atoms.positions[rows]
        return positions


def group_residues(atoms: AtomTable) -> tuple[ResidueAtoms, list[LeftOut]]:
    """Of one model: each residue once, with one conformation, and how many atoms were left out."""
    owner, segments = _owners(atoms)
    order = np.argsort(owner, kind="stable")
    kept, left_out = _one_of_each(atoms.take(order), owner[order])
    rows = order[kept]
    counts = np.bincount(owner[rows], minlength=len(segments))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    found = ResidueAtoms(atoms.take(rows), offsets, np.array(segments, dtype=np.int64))
    return found, [LeftOut(what, count) for what, count in left_out.items() if count]


def _owners(atoms: AtomTable) -> tuple[Array, list[int]]:
    """The residue of each atom [A], and the segment of each residue.

    Atoms that come later (hydrogens at the end of a chain) join their residue. If they are there
    already, the numbering has begun anew, and so has a chain.
    """
    keys = (atoms.chain_ids, atoms.numbers, atoms.insertion_codes, atoms.places)
    changes = np.zeros(len(atoms), dtype=bool)
    for values in keys:
        changes[1:] |= values[1:] != values[:-1]
    starts = np.concatenate([[0], np.flatnonzero(changes), [len(atoms)]]).astype(np.int64)
    owner, segments = np.empty(len(atoms), np.int64), list[int]()
    known: dict[tuple[object, ...], int] = {}
    names: dict[int, set[tuple[str, str]]] = {}
    segment_of: dict[str, int] = {}
    for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        chain = str(atoms.chain_ids[a])
        found = set(zip(atoms.atom_names[a:b].tolist(), atoms.altlocs[a:b].tolist(), strict=True))
        segment = segment_of.setdefault(chain, len(segment_of))
        key = (segment, *(values[a].item() for values in keys[1:]))
        if key in known and names[known[key]] & found:
            segment = segment_of[chain] = max(segment_of.values()) + 1
            key = (segment, *key[1:])
        if key not in known:
            known[key] = len(segments)
            names[known[key]] = set()
            segments.append(segment)
        names[known[key]] |= found
        owner[a:b] = known[key]
    return owner, segments


def _one_of_each(atoms: AtomTable, owner: Array) -> tuple[Array, Counter[str]]:
    """Rows to keep: of each residue one alternative, and of each of its atoms the first."""
    _, named = np.unique(atoms.atom_names, return_inverse=True)
    pairs = owner * (int(named.max(initial=0)) + 1) + named.reshape(-1)
    _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    starts = np.concatenate([[True], owner[1:] != owner[:-1]])
    first_of_owner = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    doubtful = atoms.altlocs != ""
    doubtful |= atoms.residue_names != atoms.residue_names[first_of_owner]
    doubtful[first[counts > 1]] = True
    keep, left_out = np.ones(len(owner), dtype=bool), Counter[str]()
    for residue in np.unique(owner[doubtful]).tolist():
        a, b = np.searchsorted(owner, [residue, residue + 1])
        own = atoms.take(np.arange(a, b))
        chosen = _alternative(own)
        once = np.zeros(b - a, dtype=bool)
        once[np.flatnonzero(chosen)[_first(own.atom_names[chosen])]] = True
        keep[a:b] = once
        left_out["atoms of other alternate locations"] += int((~chosen).sum())
        left_out["atoms that are there twice"] += int(chosen.sum() - once.sum())
    return np.flatnonzero(keep), left_out


def _alternative(own: AtomTable) -> Array:
    """Which atoms of a residue belong to the alternative that is taken, [a] of bool.

    An alternative is a residue name and a label, with the atoms of that name that have no label.
    The one with the most backbone atoms is taken; of several that of the highest mean occupancy of
    its labelled atoms; of several the first label.
    """
    found = {}
    for name, label in sorted(set(zip(own.residue_names, own.altlocs, strict=True))):
        of_name = own.residue_names == name
        labelled = of_name & (own.altlocs == label)
        if label == "" and (of_name & (own.altlocs != "")).any():
            continue  # shared by the labels of this name
        members = labelled | (of_name & (own.altlocs == ""))
        num_backbone = len(set(own.atom_names[members].tolist()) & set(BACKBONE))
        occupancy = round(float(own.occupancies[labelled].mean(dtype=np.float64)), 4)
        found[(-num_backbone, -occupancy, str(label), str(name))] = members
    return found[min(found)]


def _first(names: Array) -> Array:
    """The places at which each name comes for the first time."""
    return np.sort(np.unique(names, return_index=True)[1])
