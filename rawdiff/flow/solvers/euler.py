"""Euler's method on dz/dt = v: first order."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from rawdiff.flow.solvers.velocity import Velocity


def euler(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """First order: z + dt v(z, t)."""
    for t, t_next in pairwise(times):
        z = z + (t_next - t) * velocity(z, t)
    return z
