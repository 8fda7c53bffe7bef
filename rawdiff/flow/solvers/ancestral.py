"""Steps that renew a share of the noise, and so forget errors of earlier ones: first order."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from rawdiff.flow.solvers.velocity import Solver, StepNoise, Velocity


def ancestral(eta: float, noise: StepNoise) -> Solver:
    """First order with new noise in each step: `noise(i)` is that of step i, of the spread of eps.

    z = t x + (1 - t) eps, where sigma = (1 - t) / t falls from step to step and eps is renewed by a
    share eta sqrt(1 - (sigma_next / sigma)²) of its spread, all of it at most. eta = 0 is Euler's
    step, 1 that of ancestral sampling. (Song et al. 2020, arXiv 2010.02502, eq. 16, in sigma)
    """

    def solve(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
        for step, (t, t_next) in enumerate(pairwise(times)):
            v = velocity(z, t)
            x, eps = z + (1 - t) * v, z - t * v
            fall = t * (1 - t_next) / ((1 - t) * t_next)  # sigma_next / sigma; 0 at t = 0 and 1
            renewed = (eta * (1 - fall.square()).clamp(min=0).sqrt()).clamp(max=1)
            if t > 0:  # at the start eps is all noise: there is nothing to forget
                eps = (1 - renewed.square()).sqrt() * eps + renewed * noise(step)
            z = t_next * x + (1 - t_next) * eps
        return z

    return solve
