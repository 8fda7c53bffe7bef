"""From noise to data: the ordinary differential equation dz/dt = v(z, t), solved from 0 to 1.

Or a stochastic one with the same z_t, which forgets errors of its earlier steps.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""v(z, t) for z [B, …] and one time t for all (a float32 tensor without dims)."""

Solver: TypeAlias = Callable[[Velocity, Tensor, Tensor], Tensor]
SolverName: TypeAlias = Literal["euler", "heun", "ancestral"]


def time_grid(num_steps: int, start: float = 0.0) -> Tensor:
    """num_steps + 1 evenly spaced times from `start` to 1, float32, on the CPU."""
    return torch.linspace(start, 1, num_steps + 1)


def euler(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """First order: z + dt v(z, t)."""
    for t, t_next in pairwise(times):
        z = z + (t_next - t) * velocity(z, t)
    return z


def heun(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """Second order, two evaluations a step; the last step is Euler's, as v may blow up at t = 1."""
    for t, t_next in pairwise(times[:-1]):
        v = velocity(z, t)
        v_next = velocity(z + (t_next - t) * v, t_next)
        z = z + (t_next - t) * (v + v_next) / 2
    return euler(velocity, z, times[-2:])


def ancestral(eta: float, noise: Callable[[int], Tensor]) -> Solver:
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


SOLVERS: dict[SolverName, Solver] = {"euler": euler, "heun": heun}
"""Those without noise of their own."""
