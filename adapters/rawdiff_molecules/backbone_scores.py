"""Scores of backbones that need no network: geometry, hand, folds, and how much they are new."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.conditions import spread
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.evaluate.evaluator import Basis, FeatureEvaluator, Features, Goal
from rawdiff.evaluate.wasserstein import wasserstein_1
from rawdiff_molecules.backbone_measures import MEASURES, jensen_shannon, measure, ramachandran
from rawdiff_molecules.folds import (
    SSE,
    Atoms,
    atoms_of,
    likeness,
    nearest,
    num_clusters,
    outline,
    secondary_structure,
)
from rawdiff_molecules.geometry import CA, NUM_ATOMS, all_atoms, as_backbone, is_backbone
from rawdiff_molecules.peptide import neighbours

NUM_CHANNELS = 3 * NUM_ATOMS
HIGH = ("ca_ca", "bonds", "angles", "planar", "right_handed")
ORACLE = ("cis", "negative_phi", "radius", "helix", "strand", "coil")
FOLDS = ("mean_tm", "clusters", "nearest_tm")


class Backbones(FeatureEvaluator):
    """Scores of backbones [12, L]: N, CA, C and O in Angstrom, NaN where missing.

    Of all residues and bonds of all chains:

    - `ca_ca`: share of neighbours' CA 3.8 +- 0.1 Angstrom apart (cis bonds, `cis` of all, are
      2.9); `ca_ca_error`, mean absolute difference from 3.8;
    - `bonds`, `angles`: shares within 0.05 Angstrom and 10 degrees of Engh and Huber's;
      `bond_error`, `angle_error`, mean absolute differences; `planar`: share of omega within 30
      degrees of 0 or 180;
    - `right_handed`: share of right-handed turns among those of helices; `negative_phi`;
      `mirror_images`: share of chains whose helices and strands turn the wrong way;
    - `ramachandran`: Jensen-Shannon divergence (bits) from the training chains, by 10 degrees;
    - `helix`, `strand`, `coil`: mean shares of a chain (P-SEA); `sse`: Wasserstein distance of
      these shares from those of training chains, mean of the three;
    - `clashes`: pairs of CA under 3 Angstrom apart, without neighbours, for each residue;
      `radius`: mean radius of gyration over 2.2 N^0.38.

    Of some chains: `mean_tm`, the mean TM-score of all pairs (diversity: low), and `clusters`, how
    many folds (TM over 0.5 links) there are for each chain; `nearest_tm`, the mean of the largest
    TM-score with a training chain (novelty: low). A pair takes about 20 ms.
    """

    by_default: ClassVar[bool] = False  # data of backbones name it

    num_samples: int = Field(default=500, ge=2)
    """Samples that are drawn, with labels in turn. [samples]"""
    num_reference: int | None = Field(default=2_000, ge=2)
    """Training samples that they are compared with; `null`: all. [samples]"""
    num_compared: int = Field(default=32, ge=2)
    """Chains of which pairs are superposed, 496 of 32. [chains]"""
    num_candidates: int = Field(default=8, ge=1)
    """Training chains that each of them is superposed on: those whose outline is most alike.
    [chains]"""

    def goal(self, key: str) -> Goal:
        if key in HIGH:
            return "high"
        return "oracle" if key in (*ORACLE, *FOLDS) else "low"

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return (*MEASURES, "ramachandran", "helix", "strand", "coil", "sse", *FOLDS)

    def obstacle(self, basis: Basis) -> str | None:
        if is_backbone(basis.info):
            return None
        return (
            "it scores backbones [3 A, residues] of the coordinates of A of the atoms N, CA, C and "
            f"O, CA among them, but samples have the shape {list(basis.info.shape)}"
        )

    def features(
        self, batch: Tensor, basis: Basis, place: Tensor | None = None
    ) -> dict[str, Tensor]:
        values = () if place is None else place.unbind(dim=1)
        rows = dict(zip(basis.info.place_names, values, strict=False))
        x = all_atoms(batch, basis.info)
        return backbone_features(x, rows.get("residue"), rows.get("chain"))

    def score(self, features: Features, reference: Features, basis: Basis) -> dict[str, float]:
        return {
            **_geometry(features),
            **_ramachandran(features, reference),
            **_content(features, reference),
            **self._folds(features, reference),
        }

    def _folds(self, features: Features, reference: Features) -> dict[str, float]:
        compared = spread(min(self.num_compared, len(features["x"])), len(features["x"]))
        chains = [atoms_of(*_chain(features, i)) for i in compared]
        if not any(map(len, chains)):
            return {}  # of CA alone there is no alphabet by which structures are superposed
        largest = [
            nearest(chain, self._candidates(features["outline"][i], reference))
            for i, chain in zip(compared, chains, strict=True)
        ]
        found = {"nearest_tm": float(np.mean(largest))}
        if len(chains) < 2:
            return found
        scores = likeness(chains)
        pairs = scores[np.triu_indices(len(scores), k=1)]
        clusters = num_clusters(scores) / len(chains)
        return found | {"mean_tm": float(pairs.mean()), "clusters": clusters}

    def _candidates(self, shape: Tensor, reference: Features) -> list[Atoms]:
        """Those of the reference whose outline is most like `shape`."""
        far = (reference["outline"] - shape).square().mean(dim=1).nan_to_num(torch.inf)
        nearby = far.argsort(stable=True)[: self.num_candidates].tolist()
        return [atoms_of(*_chain(reference, j)) for j in nearby]


def backbone_features(
    x: Tensor, index: Tensor | None = None, chain: Tensor | None = None
) -> dict[str, Tensor]:
    """What is scored of samples [n, 12, L]; row i is of sample i alone.

    `index` and `chain` [n, L] say where residues lie; without them each follows the one before.
    """
    x = x.detach().cpu()
    if index is None:
        index = torch.arange(x.shape[-1]).expand(len(x), -1).float()
    index = index.cpu()
    backbone = as_backbone(x.double())
    joined = neighbours(index, None if chain is None else chain.cpu())
    shares = [
        _shares(ca, place) for ca, place in zip(backbone[..., CA, :].numpy(), index, strict=True)
    ]
    return {
        "x": x.float().flatten(1),
        "index": index.float(),
        "measures": measure(backbone, joined).flatten(1),
        "ramachandran": ramachandran(backbone, joined).float(),
        "sse": torch.tensor(shares, dtype=torch.float64),
        "outline": torch.stack([outline(ca) for ca in backbone[..., CA, :]]).float(),
    }


def _shares(ca: Array, index: Tensor) -> list[float]:
    """Of helix, strand and coil; NaN for a chain without residues."""
    found = secondary_structure(ca, index.numpy())
    return [float((found == kind).mean()) if len(found) else np.nan for kind in SSE]


def _chain(features: Features, i: int) -> tuple[Array, Array]:
    """Backbone [L, 4, 3] and index [L] of a sample."""
    x = features["x"][i].reshape(NUM_CHANNELS, -1)
    return as_backbone(x[None])[0].numpy(), features["index"][i].numpy()


def _geometry(features: Features) -> dict[str, float]:
    totals = features["measures"].reshape(-1, len(MEASURES), 2).sum(dim=0)
    return {
        name: float(total / number)
        for name, (total, number) in zip(MEASURES, totals, strict=True)
        if number > 0
    }


def _ramachandran(features: Features, reference: Features) -> dict[str, float]:
    ours, theirs = (part["ramachandran"].double().sum(dim=0) for part in (features, reference))
    if min(float(ours.sum()), float(theirs.sum())) == 0:
        return {}
    return {"ramachandran": jensen_shannon(ours, theirs)}


def _content(features: Features, reference: Features) -> dict[str, float]:
    ours, theirs = features["sse"], reference["sse"]
    if bool(ours.isnan().all()) or bool(theirs.isnan().all()):
        return {}
    far = [wasserstein_1(ours[:, i], theirs[:, i]) for i in range(len(SSE))]
    shares = dict(zip(("helix", "strand", "coil"), ours.nanmean(dim=0).tolist(), strict=True))
    return {**shares, "sse": sum(far) / len(far)}
