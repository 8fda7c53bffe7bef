"""The method of Adams and Bashforth on dz/dt = v: second order, one evaluation a step."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from rawdiff.flow.solvers.velocity import Velocity


def ab2(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """z + dt (v + dt / (2 dt_last) (v - v_last)): the line through both velocities, integrated.

    The first step is Euler's, for want of a velocity before it; so is the last, which ends at x.
    """
    v_last, dt_last = None, times[1] - times[0]
    for t, t_next in pairwise(times):
        v, dt = velocity(z, t), t_next - t
        slope = v
        if v_last is not None and t_next < 1:
            slope = v + dt / (2 * dt_last) * (v - v_last)
        z = z + dt * slope
        v_last, dt_last = v, dt
    return z
