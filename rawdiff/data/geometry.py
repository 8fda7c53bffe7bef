"""What is known of samples that can be moved: where they lie, and how one is laid upon another."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Geometry(ABC):
    """Samples lie in a subspace (a molecule's centre at 0), and motions leave them what they are.

    Noise and predictions are kept in that subspace, too. Tensors are [B, C, …], NaN where missing,
    all divided by one number: `standardization` may not treat channels differently.
    """

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the subspace: linear, and itself for what lies there."""

    def align(self, x: Tensor, target: Tensor, where: Tensor) -> Tensor:
        """x, moved as a whole so that it lies on `target` as well as it can in `where` (bool).

        By a motion that leaves a sample what it is; without one (as here) it stays.
        """
        return x
