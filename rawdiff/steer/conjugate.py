"""Conjugate gradients for many systems at once. (Hestenes and Stiefel 1952)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """u [B, M] with what is left, b - S u [B, M], and the linear image of u [B, K]."""

    u: Tensor
    residual: Tensor
    image: Tensor

    @property
    def distance(self) -> Tensor:
        """[B, 1]: the square of the norm of what is left."""
        return _dot(self.residual, self.residual)

    def where(self, rows: Tensor, other: Solution) -> Solution:
        """This one in the rows [B, 1] that are chosen, elsewhere the other."""
        return Solution(
            torch.where(rows, self.u, other.u),
            torch.where(rows, self.residual, other.residual),
            torch.where(rows, self.image, other.image),
        )


def conjugate_gradients(
    product: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Solution,
    *,
    guess: Tensor | None = None,
    num_iterations: int,
    tolerance: float,
) -> Solution:
    """The best of the iterates for S u = b; `start` is that of u = 0, so that b is left.

    `product(u)` gives S u and the image of u; it is asked `num_iterations` times at most. Each row
    by itself: no bit of it depends on other rows. A row is done where `tolerance` times b is left,
    in norm, or less, or where S is not positive, as it may be where a network's derivative is not
    symmetric. Rows begin at `guess` [B, M] where that leaves less than 0 does.
    """
    enough = start.distance * tolerance**2
    now = start
    if guess is not None and num_iterations > 1:
        product_u, image = product(guess)
        guessed = Solution(guess, start.residual - product_u, image)
        now = guessed.where(guessed.distance < start.distance, start)
        num_iterations -= 1
    best, p = now, now.residual
    active = now.distance > enough
    for _ in range(num_iterations):
        if not bool(active.any()):
            break
        product_p, image_p = product(p)
        curvature, before = _dot(p, product_p), now.distance
        active = active & (curvature > 0)
        step = torch.where(active, before / curvature, 0.0)
        moved = Solution(
            now.u + step * p, now.residual - step * product_p, now.image + step * image_p
        )
        now = moved.where(active, now)
        p = now.residual + torch.where(active, now.distance / before, 0.0) * p
        best = now.where(now.distance < best.distance, best)
        active = active & (now.distance > enough)
    return best


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """[B, 1]"""
    return (a * b).sum(-1, keepdim=True)
