"""The contract of a method: how an observation moves what the network takes for the samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rawdiff.flow.solvers.velocity import Solver
from rawdiff.settings import Settings
from rawdiff.steer.evidence import Evidence


@dataclass(frozen=True)
class Moment:
    """One evaluation: x [B, N, P] is E[x | z_t], a function of z [B, N, P] that can be derived.

    Both are standardized. V[x | z_t] is `spread` [B, 1, 1] times dx/dz.
    """

    z: Tensor
    x: Tensor
    t: Tensor
    spread: Tensor
    evidence: Evidence
    num_steps: int
    """Steps of the solver from noise to data."""
    memory: list[tuple[float, Tensor]]
    """What the method writes down for the evaluations of this batch that follow: its own affair."""
    noise: Tensor | None
    """In the last step of methods that are `drawn_at_last`: standard normal [B, M], as y."""

    def backward(self, x_bar: Tensor) -> Tensor:
        """(dx/dz)^T x_bar [B, N, P]."""
        return torch.autograd.grad(self.x, self.z, x_bar, retain_graph=True)[0]


class Method(Settings, ABC):
    """How samples are made to agree with an observation. Fields are keys under `method:`."""

    derives: ClassVar[bool] = True
    """Whether it needs derivatives of the network."""
    exact: ClassVar[bool] = False
    """Whether it takes observed values of the sample itself as they are: masks alone."""
    drawn_at_last: ClassVar[bool] = False
    """Whether the last step has noise in its `Moment`, to end at a draw and not at a mean."""

    @abstractmethod
    def steer(self, moment: Moment) -> Tensor:
        """E[x | z_t, y], standardized [B, N, P]; each sample by itself."""

    def solver(self, own: Solver, noise: Callable[[int], Tensor]) -> Solver:
        """What solves the equation: `own`, that of the settings, unless the method has another.

        noise(i) is the i-th of many independent draws of the spread of eps.
        """
        return own
