"""Muon: steps along orthogonalized momentum, for the matrices between hidden layers.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; scaled as in Liu et al. 2025, arXiv
2502.16982. Not `torch.optim.Muon`, which goes from matrix to matrix, knows none that are fused or
sharded, and cannot leave a step out without waiting for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from rawdiff.averages.ema import lerp_if
from rawdiff.parallel.apply import local
from rawdiff.parallel.owners import compute_whole

MOMENTUM = 0.95
NUM_ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at 0, so that small singular values grow fast
SMALLEST_NORM = 1e-7  # a matrix of zeros stays one
ADAM_RMS = 0.2  # of AdamW's updates, so that Muon can take over its learning rate and weight decay


def orthogonalize(matrices: Tensor) -> Tensor:
    """U V^T for each of the matrices U S V^T [k, R, C], roughly, in their dtype.

    Newton-Schulz: five times X <- a X + (b A + c A²) X with A = X X^T, which brings singular values
    between 0.7 and 1.2, but for those next to nothing.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    X = matrices.mT if is_tall else matrices  # the smaller A
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(NUM_ITERATIONS):
        A = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X.mT if is_tall else X


def orthogonalize_flops(num_rows: int, num_columns: int) -> int:
    """Operations for one matrix; a multiply-add counts as two."""
    m, n = sorted((num_rows, num_columns))
    return NUM_ITERATIONS * (4 * m * m * n + 2 * m**3)


class Muon(torch.optim.AdamW):
    """Muon with Nesterov momentum for groups that have `parts`; fused AdamW for all others.

    Such a group holds equal matrices, each made of so many, one below another, which are
    orthogonalized each by itself, all of a group at once and in `dtype`. Of sharded ones each
    process puts together and orthogonalizes some. A step is left out where `found_inf` is not 0,
    as by the fused AdamW.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        dtype: torch.dtype,
    ) -> None:
        super().__init__([{"parts": 0} | group for group in groups], lr=lr, betas=betas, fused=True)
        self.dtype = dtype

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Past AdamW's own, which looks for AdamW's moments in the state of every weight."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["parts"]]
        super().step()
        self.param_groups = groups
        for group in groups:
            if group["parts"]:
                self._step_matrices(group)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        matrices = [p for p in group["params"] if p.grad is not None]
        if not matrices:
            return
        for p in matrices:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        taken = self._taken(local(matrices[0]).device)
        if taken.device.type == "cpu" and not taken:  # where nothing is under way, asking is free
            return
        rate, decay, parts = group["lr"], group["weight_decay"], group["parts"]
        num_rows, num_columns = matrices[0].shape
        scale = ADAM_RMS * math.sqrt(max(num_rows // parts, num_columns))

        def orthogonalize_parts(whole: Tensor) -> Tensor:
            split = rearrange(whole, "k (s r) c -> (k s) r c", s=parts)
            return rearrange(orthogonalize(split), "(k s) r c -> k (s r) c", s=parts)

        directions = torch.stack([self._direction(p, taken) for p in matrices])
        updates = compute_whole(orthogonalize_parts, directions, like=matrices[0])
        for p, update in zip(matrices, updates, strict=True):
            old = local(p.detach())
            new = (old * (1 - rate * decay)).sub_(update, alpha=rate * scale)
            torch.where(taken, new, old, out=old)

    def _direction(self, p: Tensor, taken: Tensor) -> Tensor:
        """Nesterov's: the gradient, moved by momentum; takes the gradient into the momentum."""
        assert p.grad is not None
        momentum, gradient = local(self.state[p]["momentum_buffer"]), local(p.grad)
        lerp_if(taken, momentum, gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM).to(self.dtype)

    def _taken(self, device: torch.device) -> Tensor:
        if self.found_inf is None:
            return torch.ones((), dtype=torch.bool, device=device)
        return self.found_inf == 0
