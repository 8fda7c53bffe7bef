"""Heun's steps after a little new noise. (Karras et al. 2022, arXiv 2206.00364, Algorithm 2)"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from rawdiff.flow.solvers.heun import heun_step
from rawdiff.flow.solvers.velocity import Solver, StepNoise, Velocity

MAX_GROWTH = math.sqrt(2) - 1  # of sigma in one step, so that new noise is never more than the old


def churn(amount: float, interval: tuple[float, float], noise: StepNoise) -> Solver:
    """Before each step within the interval of times, sigma = (1 - t) / t grows by a share gamma.

    gamma = amount / num_steps, at most sqrt(2) - 1; `amount` is the paper's S_churn. Heun's step
    then begins at the earlier time that has this much noise. Amount 0 is Heun's method.
    """
    low, high = interval

    def solve(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
        growth = min(amount / (len(times) - 1), MAX_GROWTH)
        for step, (t, t_next) in enumerate(pairwise(times)):
            if growth and t > 0 and low <= t <= high:  # at t = 0 z is all noise already
                z, t = _with_noise(z, t, growth, noise(step))
            if t_next < 1:
                z = heun_step(velocity, z, t, t_next)
            else:
                z = z + (t_next - t) * velocity(z, t)
        return z

    return solve


def _with_noise(z: Tensor, t: Tensor, growth: float, new: Tensor) -> tuple[Tensor, Tensor]:
    """z / t gets what is missing to (1 + growth) sigma; z at the time that has so much noise."""
    sigma = (1 - t) / t
    earlier = t / (t + (1 + growth) * (1 - t))
    added = math.sqrt((1 + growth) ** 2 - 1) * sigma
    return earlier * (z / t + added * new), earlier
