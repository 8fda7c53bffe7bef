"""Moment matching: the observation weighs against how sure the network is of each value.

Rozet et al. 2024, "Learning diffusion priors from observations by expectation maximization",
arXiv 2405.13712, section 4.2.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.steer.derivative import Derivative
from rawdiff.steer.method import Method, Moment
from rawdiff.steer.residuals import Triple, minimal_residuals


class MMPS(Method):
    """E[x | z, y] = x + V A^T u with (A V A^T + Sigma_y) u = y - A x and V = V[x | z].

    V is (1 - t)² noise_std² / t times the network's derivative dx/dz, which is symmetric for the
    exact denoiser; near t = 0, where networks hardly learn it, V is held to the data's spread. u is
    found by conjugate residuals, each the price of a backward pass: as many as leave `tolerance` of
    y - A x, in norm, and `num_iterations` at most. The first looks where u should lie by the two
    evaluations before. Exact for Gaussian data and linear operators.
    """

    num_iterations: int = Field(default=5, ge=1)
    """Conjugate residuals in each call of the network, at most. [iterations]"""
    tolerance: float = Field(default=0.01, gt=0, lt=1)
    """How much of the distance from the observation they may leave. [-]"""
    last_noise: float | None = Field(default=None, gt=0)
    """Steps are added at the end until the noise of z is so much of the observation's: seen values
    vary too little otherwise, but what a network errs by near t = 1 adds up over these steps
    (default: none). [-]"""

    def noise_before_end(self) -> float | None:
        return self.last_noise

    def steer(self, moment: Moment) -> Tensor:
        evidence, x = moment.evidence, moment.x.detach().requires_grad_()
        of_x = Derivative(evidence.measure, x)

        def covariance(u: Tensor) -> Triple:
            """(A V A^T + Sigma_y) u, where Sigma_y is 1 by the units of the evidence; V A^T u."""
            dx = moment.spread * moment.backward(of_x.transposed(u))
            return Triple(u, u + of_x.times(dx), dx.flatten(1))

        found = minimal_residuals(
            covariance,
            (evidence.y - of_x.y).detach(),
            torch.zeros_like(x).flatten(1),
            guess=_expected(moment),
            num_iterations=self.num_iterations,
            tolerance=self.tolerance,
        )
        _remember(moment, found.u)
        return x.detach() + found.image.view_as(x)


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
