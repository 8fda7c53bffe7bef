"""Derivatives of an operator in both directions, without its matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Derivative:
    """y = `measure(x)` [B, M] and its derivative J at x [B, …], which must require gradients."""

    def __init__(self, measure: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self.x, self.y = x, measure(x)
        self._bar = torch.zeros_like(self.y, requires_grad=True)
        (self._x_bar,) = torch.autograd.grad(self.y, x, self._bar, create_graph=True)

    def transposed(self, u: Tensor) -> Tensor:
        """J^T u [B, …] for u [B, M]."""
        return torch.autograd.grad(self.y, self.x, u, retain_graph=True)[0]

    def times(self, dx: Tensor) -> Tensor:
        """J dx [B, M]: the derivative of J^T u, which is linear in u, by u."""
        return torch.autograd.grad(self._x_bar, self._bar, dx, retain_graph=True)[0]
