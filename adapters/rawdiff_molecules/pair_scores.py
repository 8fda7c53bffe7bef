"""Scores of maps of residue pairs: of the maps, and of the chains that they describe."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.evaluate.evaluator import Basis, FeatureEvaluator, Features, Goal
from rawdiff_molecules.backbone_scores import Backbones, backbone_features
from rawdiff_molecules.geometry import as_sample
from rawdiff_molecules.pair_decode import Decoded
from rawdiff_molecules.pair_geometry import is_pair_map
from rawdiff_molecules.pair_writer import ca_alone, decode_samples, distances, residue_index

OF_MAPS = ("decoded", "stress", "asymmetry", "triangles", "hand")
OF_CHAINS = (
    "ca_ca",
    "ca_ca_error",
    "right_handed",
    "clashes",
    "radius",
    "helix",
    "strand",
    "coil",
    "sse",
)


class PairMapScores(FeatureEvaluator):
    """How well maps are those of chains, and what chains they are; beside the data's own.

    - `decoded`: share of maps that have coordinates; `stress`: root mean square difference
      (Angstrom) of a map's distances from those of its points, mean over maps;
    - `asymmetry`: mean difference (Angstrom) of the two distances of a pair;
    - `triangles`: share of residues i, i + 1, j with a side longer than the others together;
    - `hand`: share of maps whose omega tells the same hand as their helices and strands;
    - of the decoded CA the scores of `backbones` that need no other atoms. Points are given that
      hand which fits better, so that there are no mirror images among them.
    """

    by_default: ClassVar[bool] = False  # data of maps name it

    num_samples: int = Field(default=500, ge=2)
    """Samples that are drawn, with labels in turn. [samples]"""
    num_reference: int | None = Field(default=2_000, ge=2)
    """Training samples that they are compared with; `null`: all. [samples]"""

    def goal(self, key: str) -> Goal:
        return "high" if key in ("decoded", "hand") else Backbones().goal(key)

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return (*OF_MAPS, *OF_CHAINS)

    def obstacle(self, basis: Basis) -> str | None:
        if is_pair_map(basis.info.channels):
            return None
        return "it scores maps of the dataset `pair_maps`, but samples have other channels"

    def features(
        self, batch: Tensor, basis: Basis, place: Tensor | None = None
    ) -> dict[str, Tensor]:
        samples = batch.detach().cpu().numpy()
        index = residue_index(samples, basis.info, None if place is None else place.cpu().numpy())
        found = decode_samples(samples, basis.info, index)
        seen = distances(samples, basis.info)
        ca = torch.stack([own.ca for own in found]).float()
        of_maps = [[own.failure is None, own.stress, _hand(own)] for own in found]
        return {
            **backbone_features(as_sample(ca_alone(ca)), index),
            "decoding": torch.tensor(of_maps, dtype=torch.float64),
            "asymmetry": _asymmetry(seen)[:, None],
            "triangles": _broken_triangles(seen)[:, None],
        }

    def score(self, features: Features, reference: Features, basis: Basis) -> dict[str, float]:
        decoded, stress, hand = features["decoding"].nanmean(dim=0).tolist()
        found = {
            "decoded": decoded,
            "stress": stress,
            "asymmetry": float(features["asymmetry"].nanmean()),
            "triangles": float(features["triangles"].nanmean()),
            "hand": hand,
        }
        found = {key: value for key, value in found.items() if not math.isnan(value)}
        of_chains = Backbones().score(features, reference, basis)
        return found | {key: of_chains[key] for key in OF_CHAINS if key in of_chains}


def _hand(decoded: Decoded) -> float:
    """1 where omega and the shape tell the same hand, 0 where they do not, NaN if one is mute."""
    if not decoded.shape_vote or not decoded.omega_vote:
        return math.nan
    return float((decoded.shape_vote > 0) == (decoded.omega_vote > 0))


def _asymmetry(distances: Tensor) -> Tensor:
    """Of [n, L, L]: mean absolute difference [n] of both triangles."""
    return (distances - distances.mT).abs().flatten(1).nanmean(dim=1)


def _broken_triangles(distances: Tensor) -> Tensor:
    """Share [n] of triangles of neighbours and a third residue that cannot be drawn."""
    both = (distances + distances.mT) / 2
    one, other = both[:, :-1], both[:, 1:]
    side = both.diagonal(offset=1, dim1=-2, dim2=-1).unsqueeze(-1)
    longest = torch.maximum(torch.maximum(one, other), side)
    excess = 2 * longest - (one + other + side)
    return torch.where(excess.isnan(), torch.nan, (excess > 1e-3).float()).flatten(1).nanmean(1)
