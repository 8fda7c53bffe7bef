"""The contract of an evaluator: a score of samples against training data, for any modality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.data.dataset import DataInfo
from rawdiff.settings import Settings


@dataclass(frozen=True)
class Basis:
    """Names and units of samples, how they are cut; mean and spread [C] of the reference."""

    info: DataInfo
    adapter: Adapter
    mean: Tensor
    std: Tensor


class Evaluator(Settings, ABC):
    """Fields are the keys that a recipe may write under `evaluate.evaluators.<name>:`."""

    @abstractmethod
    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        """Scores of `samples` [n, C, …] against training data `reference` [m, C, …].

        Both are float32 in the data's own units, NaN where missing. The same function scores
        generated samples and real held-out ones (the oracle), with equal n.
        """
