"""Generalized conjugate residuals for many systems at once. (Eisenstat et al. 1983)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NEW = 1e-10  # of a direction's square, that must be left when those before are taken out


@dataclass(frozen=True)
class Triple:
    """u [B, M], S u [B, M] and the linear image of u [B, K]."""

    u: Tensor
    product: Tensor
    image: Tensor

    def plus(self, share: Tensor, other: Triple) -> Triple:
        """With `share` [B, 1] times the other."""
        return Triple(
            self.u + share * other.u,
            self.product + share * other.product,
            self.image + share * other.image,
        )

    def times(self, share: Tensor) -> Triple:
        """0 where `share` [B, 1] is 0."""
        parts = (self.u, self.product, self.image)
        return Triple(*(torch.where(share == 0, 0.0, share * x) for x in parts))


def minimal_residuals(
    triple: Callable[[Tensor], Triple],
    b: Tensor,
    image: Tensor,
    *,
    guess: Tensor | None,
    num_iterations: int,
    tolerance: float,
) -> Triple:
    """The u that leaves least of b - S u, in norm, among those that can be had.

    Those are all mixtures of `guess` [B, M] and of what is left of b from time to time: S need be
    neither symmetric nor positive, as a network's derivative may be. `triple(u)` is asked
    `num_iterations` times at most. Each row by itself: it is done where `tolerance` times b is
    left or less, and no bit of it depends on other rows. `image` [B, K] is that of u = 0.
    """
    found = Triple(torch.zeros_like(b), torch.zeros_like(b), image)
    b_b, r = _dot(b, b), b
    guess = None if num_iterations == 1 else guess  # alone it would never be mended
    before: list[Triple] = []
    for i in range(num_iterations):
        active = _dot(r, r) > tolerance**2 * b_b
        if not bool(active.any()):
            break
        new = triple(r if guess is None or i > 0 else guess)
        whole = _dot(new.product, new.product)
        for old in before:
            new = new.plus(-_dot(new.product, old.product), old)
        left = _dot(new.product, new.product)
        new = new.times(torch.where(active & (left > NEW * whole), left.rsqrt(), 0.0))
        before.append(new)
        found = found.plus(_dot(r, new.product), new)
        r = b - found.product
    return found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """[B, 1]"""
    return (a * b).sum(-1, keepdim=True)
