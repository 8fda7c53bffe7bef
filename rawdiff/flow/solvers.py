"""From noise to data: the ordinary differential equation dz/dt = v(z, t), solved from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""v(z, t) for z [B, …] and one time t for all (a float32 tensor without dims)."""

Solver: TypeAlias = Callable[[Velocity, Tensor, Tensor], Tensor]
SolverName: TypeAlias = Literal["euler", "heun"]


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


SOLVERS: dict[SolverName, Solver] = {"euler": euler, "heun": heun}
