"""The contracts of evaluators: scores of samples against training data, for any modality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.data.dataset import DataInfo, Dataset
from rawdiff.series import Draw, Series
from rawdiff.settings import Settings

Goal: TypeAlias = Literal["low", "high", "oracle"]
"""Which score is best: the lowest, the highest, or the nearest to that of real data."""

Features: TypeAlias = Mapping[str, Tensor]
Say: TypeAlias = Callable[[str], None]
Kept: TypeAlias = Callable[[int, Callable[[int], Mapping[str, Tensor]]], Mapping[str, Tensor]]
"""kept(n, make) gives tensors [n, …] of what make(0) … make(n - 1) give, each made only once."""


@dataclass(frozen=True)
class Basis:
    """Names and units of samples, how they are cut; mean and spread [C] of the reference.

    `adapter` is None where samples are scored at another size than that of the model: its patches
    then lie on no whole values.
    """

    info: DataInfo
    adapter: Adapter | None
    mean: Tensor
    std: Tensor


class Scorer(Settings):
    """What all kinds of evaluators share; derive from one of the kinds below, not from this.

    Fields are the keys that a recipe may write under `evaluate.evaluators.<name>:`. One that is
    not `by_default` is used only where a recipe or `--metric` names it.
    """

    by_default: ClassVar[bool] = True

    def goal(self, key: str) -> Goal:
        """What is better of the score under this key; a search for settings follows it."""
        return "low"

    def score_keys(self, info: DataInfo) -> tuple[str, ...] | None:
        """All keys that `score` may give of such samples; None: they show only when it did."""
        return None

    def obstacle(self, basis: Basis) -> str | None:
        """Why such samples have no score, and what to do; None where they may have one."""
        return None


class Evaluator(Scorer, ABC):
    """Scores a set of samples that is in memory, as a whole."""

    @abstractmethod
    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        """Scores of `samples` [n, C, …] against training data `reference` [m, C, …].

        Both are float32 in the data's own units, NaN where missing. The same function scores
        generated samples and real held-out ones (the oracle), with equal n. A key "" stands for
        the evaluator's own name.
        """


@dataclass(frozen=True)
class OwnReference:
    """A reference other than the training data: samples to take features of, or tensors as given.

    Either may be absent; `score` gets the features and the tensors in one mapping. `name`, such as
    that of a file, stands in tables.
    """

    data: Dataset | None = None
    tensors: Features = field(default_factory=dict)
    name: str = ""


class FeatureEvaluator(Scorer, ABC):
    """Scores a set of any size by features of its samples, which are kept on disk batch by batch.

    Features are also taken of as many held-out samples, if there are.
    """

    num_samples: int = Field(default=50_000, ge=2)
    """Samples that are drawn, with labels in turn. [samples]"""
    num_reference: int | None = Field(default=None, ge=2)
    """Training samples that they are compared with (default, and `null`: all). [samples]"""
    batch_size: int = Field(default=64, ge=1)
    """Samples of the data that are read at a time; drawn ones come as `sample.batch_size` says.
    [samples]"""

    @abstractmethod
    def features(
        self, batch: Tensor, basis: Basis, place: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features [n, F] by name of samples [n, C, …]; row i is of sample i alone.

        The batch is float32 in the data's own units, on the device of the model; `place`
        [n, A, …] is that of the samples, where they have one.
        """

    @abstractmethod
    def score(self, features: Features, reference: Features, basis: Basis) -> dict[str, float]:
        """Scores of features [n, F] against those [m, F] of the reference, all on the CPU.

        The same function scores generated and real held-out samples, whose n may differ.
        """

    def origin(self) -> dict[str, Any]:
        """What features depend on beside the samples, as plain data for JSON.

        Features are computed again where this changes: a file belongs here with a digest.
        """
        kept_apart = {"num_samples", "num_reference", "batch_size"}
        return self.model_dump(mode="json", exclude=kept_apart)

    def own_reference(self, basis: Basis) -> OwnReference | None:
        """None: the training data of the recipe."""
        return None


class SeriesEvaluator(Scorer, ABC):
    """Scores forecasts of a series, which it has drawn from known states."""

    @abstractmethod
    def score(
        self, draw: Draw, held_out: Series, train: Series, kept: Kept, folder: Path, say: Say
    ) -> tuple[dict[str, dict[str, float]], int]:
        """Scores by column, each by key, and the number of forecasts.

        One column is `report.GENERATED`; the others are forecasts that need no model, by name.
        What one forecast yields is had through `kept`, so that scores go on where they were
        stopped. Tables and pictures go into `folder`, which is empty.
        `say` tells a person what is left out.
        """
