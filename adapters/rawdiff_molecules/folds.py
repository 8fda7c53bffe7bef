"""Which folds are alike: secondary structure, TM-scores after a superposition by structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rawdiff.data.dataset import Array
from rawdiff_molecules.entry import BACKBONE
from rawdiff_molecules.geometry import distance_map, present
from rawdiff_molecules.optional import require_structure

Atoms: TypeAlias = Any
"""A biotite.structure.AtomArray."""

SAME_FOLD = 0.5  # TM-score. (Xu and Zhang 2010, doi 10.1093/bioinformatics/btq066)
SSE = ("a", "b", "c")  # helix, strand, coil
NUM_POINTS = 24  # along a chain, in its outline
MIN_RESIDUES = 5


def atoms_of(backbone: Array, index: Array) -> Atoms:
    """N, CA and C of the residues of [L, 4, 3] that have them; `index` [L] has gaps.

    They are called glycine.
    """
    names = BACKBONE[:3]
    found = backbone[:, : len(names)]
    whole = np.isfinite(found).all(axis=(1, 2))
    return _array(found[whole], index[whole], names)


def _array(atoms: Array, index: Array, names: Sequence[str]) -> Atoms:
    found = require_structure().AtomArray(len(atoms) * len(names))
    found.coord = atoms.reshape(-1, 3).astype(np.float32)
    found.res_id = np.repeat(np.rint(index).astype(int), len(names))
    found.atom_name = np.tile(names, len(atoms))
    found.element = np.tile([name[0] for name in names], len(atoms))
    found.res_name[:] = "GLY"
    found.chain_id[:] = "A"
    return found


FOLDS = ("alpha", "beta", "alpha_beta", "few")
"""Classes of chains by their secondary structure."""
FEW, MAINLY = 0.2, 0.2


def fold_class(ca: Array, index: Array) -> int:
    """Which of FOLDS a chain of CA [L, 3] is.

    `few`: less than a fifth of its residues lie in helices and strands. `alpha`, `beta`: of those
    less than a fifth lie in the other kind.
    """
    found = secondary_structure(ca, index)
    helix, strand = ((found == kind).mean() if len(found) else 0.0 for kind in SSE[:2])
    if helix + strand < FEW:
        return FOLDS.index("few")
    if strand < MAINLY * (helix + strand):
        return FOLDS.index("alpha")
    return FOLDS.index("beta" if helix < MAINLY * (helix + strand) else "alpha_beta")


def secondary_structure(ca: Array, index: Array) -> Array:
    """a (helix), b (strand) or c for each residue of CA [L, 3] that is there.

    By distances and angles of CA alone. (P-SEA, Labesse et al. 1997)
    """
    there = np.isfinite(ca).all(axis=-1)
    if not there.any():
        return np.empty(0, dtype="U1")
    return require_structure().annotate_sse(_array(ca[there, None], index[there], ("CA",)))


def tm_score(a: Atoms, b: Atoms, num_residues: int) -> float:
    """Likeness of two backbones, 0 to 1, for a scale of `num_residues`. (Zhang and Skolnick 2004)

    0 where no part of one is like any part of the other, so that nothing can be superposed.
    """
    if min(len(a), len(b)) < MIN_RESIDUES * len(BACKBONE):
        return 0.0
    try:
        moved, _, of_a, of_b = require_structure().superimpose_structural_homologs(
            a, b, max_iterations=20, reference_length=num_residues
        )
    except (ValueError, IndexError, np.linalg.LinAlgError):
        return 0.0
    return float(require_structure().tm_score(a, moved, of_a, of_b, num_residues))


def num_residues(atoms: Atoms) -> int:
    return len(atoms) // len(BACKBONE)


def likeness(chains: Sequence[Atoms]) -> Array:
    """TM-scores [n, n] of all pairs, each for the mean of their numbers of residues."""
    found = np.eye(len(chains))
    for i, a in enumerate(chains):
        for j, b in enumerate(chains[:i]):
            mean = round((num_residues(a) + num_residues(b)) / 2)
            found[i, j] = found[j, i] = tm_score(a, b, mean)
    return found


def num_clusters(scores: Array) -> int:
    """Folds among n chains: those linked by TM-scores [n, n] over 0.5 are one."""
    linked = (scores > SAME_FOLD) | np.eye(len(scores), dtype=bool)
    while (farther := linked @ linked).sum() > linked.sum():
        linked = farther
    return len(np.unique(linked, axis=0))


def outline(ca: Tensor) -> Tensor:
    """Distances of points evenly spread along CA [L, 3], flat; NaN if there are too few residues.

    Folds that are alike have like outlines, which tells quickly where to look for them.
    """
    points = ca[present(ca)]
    if len(points) < MIN_RESIDUES:
        return ca.new_full((NUM_POINTS**2,), torch.nan)
    even = F.interpolate(points.T[None], size=NUM_POINTS, mode="linear", align_corners=True)
    return distance_map(even[0].T).flatten()


def nearest(chain: Atoms, others: Sequence[Atoms]) -> float:
    """The largest TM-score with any of the others, for the number of its own residues."""
    own = num_residues(chain)
    return max((tm_score(chain, other, own) for other in others), default=0.0)
