"""Moment matching: the observation weighs against how sure the network is of each value.

Rozet et al. 2024, "Learning diffusion priors from observations by expectation maximization",
arXiv 2405.13712, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.steer.derivative import Derivative
from rawdiff.steer.method import Method, Moment
from rawdiff.steer.residuals import Triple, minimal_residuals

LEAST_SURE = 0.25
"""V of what is seen over the noise, below which the draw of the last step grows no wider."""


class MMPS(Method):
    """E[x | z, y] = x + V A^T u with (A V A^T + Sigma_y) u = y - A x and V = V[x | z].

    V is (1 - t)² noise_std² / t times the network's derivative dx/dz, which is symmetric for the
    exact denoiser; near t = 0, where networks hardly learn it, V is held to the data's spread. u is
    found by conjugate residuals, each the price of a backward pass: as many as leave `tolerance` of
    y - A x, in norm, and `num_iterations` at most. The first looks where u should lie by the two
    evaluations before. Exact for Gaussian data and linear operators.

    The last step, which would end at a mean, takes y with a draw of its noise: else what is seen
    would vary less than the noise leaves open.
    """

    num_iterations: int = Field(default=5, ge=1)
    """Conjugate residuals in each call of the network, at most. [iterations]"""
    tolerance: float = Field(default=0.01, gt=0, lt=1)
    """How much of the distance from the observation they may leave. [-]"""

    drawn_at_last: ClassVar[bool] = True

    def steer(self, moment: Moment) -> Tensor:
        evidence, x = moment.evidence, moment.x.detach().requires_grad_()
        of_x = Derivative(evidence.measure, x)

        def covariance(u: Tensor) -> Triple:
            """(A V A^T + Sigma_y) u, where Sigma_y is 1 by the units of the evidence; V A^T u."""
            dx = moment.spread * moment.backward(of_x.transposed(u))
            return Triple(u, u + of_x.times(dx), dx.flatten(1))

        y = evidence.y
        if moment.noise is not None:
            y = y + _wider(moment.noise * evidence.seen, covariance)
        found = minimal_residuals(
            covariance,
            (y - of_x.y).detach(),
            torch.zeros_like(x).flatten(1),
            guess=_expected(moment),
            num_iterations=self.num_iterations,
            tolerance=self.tolerance,
        )
        _remember(moment, found.u)
        return x.detach() + found.image.view_as(x)


def _wider(noise: Tensor, covariance: Callable[[Tensor], Triple]) -> Tensor:
    """Noise [B, M] of y with which A E[x | z, y] varies as A x does, given z and y.

    With w = A V A^T and Sigma_y = 1, the mean moves by w / (w + 1) of it, and the variance is
    w / (w + 1): the noise has to vary by 1 + 1 / w. w is taken to be the same for all values,
    its trace found by one row of signs.
    """
    signs = noise.sign()
    number = signs.square().sum(-1, keepdim=True).clamp(min=1)
    w = (signs * (covariance(signs).product - signs)).sum(-1, keepdim=True) / number
    return noise * (1 + 1 / w.clamp(min=LEAST_SURE)).sqrt()


def _expected(moment: Moment) -> Tensor | None:
    """u [B, M] on the line through the last two that were found; None at first."""
    if not moment.memory:
        return None
    t_last, u_last = moment.memory[-1]
    if len(moment.memory) == 1:
        return u_last
    t_before, u_before = moment.memory[-2]
    ahead = (float(moment.t) - t_last) / (t_last - t_before)
    return u_last + max(-1.0, min(ahead, 1.0)) * (u_last - u_before)


def _remember(moment: Moment, u: Tensor) -> None:
    """In place of what was found for the same time, as Heun's steps come twice to each."""
    t = float(moment.t)
    kept = [entry for entry in moment.memory if entry[0] != t]
    moment.memory[:] = [*kept[-1:], (t, u)]
