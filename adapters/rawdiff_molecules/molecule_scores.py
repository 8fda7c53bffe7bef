"""Scores of molecules from their kept features: shares, distances of distributions, strain."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from rawdiff.data.dataset import Array
from rawdiff.evaluate.evaluator import Features
from rawdiff.evaluate.wasserstein import wasserstein_1
from rawdiff_molecules.features import HOW
from rawdiff_molecules.internal import Atoms, ByType, bond_angles, bond_lengths, torsions

GEOMETRY: dict[str, Callable[[Atoms], ByType]] = {
    "bond_length_w1": bond_lengths,
    "bond_angle_w1": bond_angles,
    "torsion_w1": torsions,
}


def accepted(rows: Features, *, ions: bool) -> Tensor:
    """Which molecules [n] have bonds with orders, in one fragment or several."""
    return rows["how"] >= HOW.index("ion" if ions else "neutral")


def connected(rows: Features) -> Tensor:
    return rows["num_fragments"] == 1


def shares(rows: Features, *, ions: bool) -> dict[str, float]:
    """Shares of all molecules, and of all atoms, that are as they should be."""
    valid, num_atoms = accepted(rows, ions=ions), rows["num_atoms"]
    stable = (rows["num_stable"] == num_atoms) & (num_atoms > 0) & valid
    found = {
        "": valid & connected(rows),
        "decoded": num_atoms > 0,
        "connected": connected(rows),
        "validity": valid,
        "ions": rows["how"] == HOW.index("ion"),
        "molecule_stability": stable,
    }
    scores = {name: float(values.double().mean()) for name, values in found.items()}
    if total := int(num_atoms.sum()):
        scores["atom_stability"] = int(rows["num_stable"].sum()) / total
    return scores


def identities(rows: Features, reference: Features, *, ions: bool) -> dict[str, float]:
    """Of connected, valid molecules: the share of different ones, and of these that of new ones."""
    found = rows["identity"][accepted(rows, ions=ions) & connected(rows)].numpy()
    if not len(found):
        return {}
    unique = np.unique(found)
    known = np.isin(unique, reference["identity"].numpy())
    return {"uniqueness": len(unique) / len(found), "novelty": float(1 - known.mean())}


def distances(rows: Features, reference: Features, *, ions: bool) -> dict[str, float]:
    """How far distributions are from those of the reference; without values there is none."""
    scores = {}
    if bool((rows["num_atoms"] > 0).any()):
        scores["num_atoms_w1"] = wasserstein_1(rows["num_atoms"], reference["num_atoms"])
        scores["element_tv"] = variation(_elements(rows), _elements(reference))
    scores |= _weighted("valence_w1", _valences(rows), _valences(reference))
    good = [_select(one, accepted(one, ions=ions) & connected(one)) for one in (rows, reference)]
    rings = [one["rings"].sum(0).double() for one in good]
    if min(float(counts.sum()) for counts in rings):
        scores["ring_size_tv"] = variation(*rings)
    atoms = [_atoms(one) for one in good]
    for name, measure in GEOMETRY.items():
        scores |= _weighted(name, *(measure(one) for one in atoms))
    return scores


def median_strain(rows: Features) -> dict[str, float]:
    """kcal/mol, of the molecules whose strain is known."""
    known = rows["strain"][~rows["strain"].isnan()]
    return {"strain": float(known.double().quantile(0.5))} if len(known) else {}


def variation(a: Tensor, b: Tensor) -> float:
    """Total variation of two lists of counts: half the sum of differences of their shares."""
    return float((a / a.sum() - b / b.sum()).abs().sum() / 2)


def _weighted(name: str, found: ByType, real: ByType) -> dict[str, float]:
    """The mean W_1 over types that both have, weighted by their numbers in the reference."""
    both = [kind for kind in real if kind in found]
    if not both:
        return {}
    each = [wasserstein_1(torch.from_numpy(found[k]), torch.from_numpy(real[k])) for k in both]
    return {name: float(np.average(each, weights=[len(real[kind]) for kind in both]))}


def _elements(rows: Features) -> Tensor:
    """Numbers of atoms [256] by atomic number."""
    counts = torch.bincount(rows["elements"].flatten().long(), minlength=256).double()
    counts[0] = 0
    return counts


def _valences(rows: Features) -> ByType:
    """Of atoms whose molecule has bonds, by element."""
    has_bonds = rows["how"] >= HOW.index("distances")
    elements = rows["elements"][has_bonds].numpy()
    sums = rows["valences"][has_bonds].numpy()
    kinds = np.unique(elements[elements > 0])
    return {(int(kind),): sums[elements == kind].astype(np.float64) for kind in kinds}


def _atoms(rows: Mapping[str, Tensor]) -> Atoms:
    arrays: list[Array] = [rows[name].numpy() for name in ("elements", "positions", "bonds")]
    return Atoms.of(*arrays)


def _select(rows: Features, which: Tensor) -> Features:
    return {name: values[which] for name, values in rows.items()}
