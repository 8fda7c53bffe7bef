"""The contract of an operator: what is observed of a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.grid import PatchGrid
from rawdiff.settings import Settings

Measure: TypeAlias = Callable[[Tensor], Tensor]
"""A(x): samples x [B, C, …] in data units to what is observed of each, [B, …]."""


class Operator(Settings, ABC):
    """What is observed of a sample. Fields are the keys under `sample.observe.operator:`."""

    keeps_channels: ClassVar[bool] = False
    """Whether an observation is [C, …], of the same quantities in the same units as a sample."""
    keeps_values: ClassVar[bool] = False
    """Whether an observation is the sample itself, NaN where it is not seen."""

    @abstractmethod
    def measure(self, info: DataInfo, grid: PatchGrid) -> Measure:
        """A, for samples as `info` says, on a patch grid: differentiable, each sample by itself.

        x is NaN where a sample has no value; where A(x) is NaN nothing can be observed. UserError
        if such an operator does not fit such samples.
        """
