"""Heun's method on dz/dt = v: second order, two evaluations a step."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from rawdiff.flow.solvers.velocity import Velocity


def heun(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """Second order, two evaluations a step; one that ends at 1, where v may blow up, is Euler's."""
    for t, t_next in pairwise(times):
        z = heun_step(velocity, z, t, t_next) if t_next < 1 else z + (t_next - t) * velocity(z, t)
    return z


def heun_step(velocity: Velocity, z: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """z at t_next, by the mean of the velocities at both ends."""
    v = velocity(z, t)
    v_next = velocity(z + (t_next - t) * v, t_next)
    return z + (t_next - t) * (v + v_next) / 2
