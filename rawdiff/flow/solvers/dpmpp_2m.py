"""DPM-Solver++(2M): second order, one evaluation a step. (Lu et al. 2022, arXiv 2211.01095)"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from rawdiff.flow.solvers.exponential import extrapolated, half_log_snr, step_with
from rawdiff.flow.solvers.velocity import Velocity


def dpmpp_2m(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """Each step takes x to change as it did since the step before. (Algorithm 2)

    The first step is Euler's, and the last one, which ends at x; so is the second after t = 0.
    """
    x_last, h_last = None, math.inf
    for t, t_next in pairwise(times):
        x = z + (1 - t) * velocity(z, t)
        h = half_log_snr(t_next) - half_log_snr(t)
        mean = x if t_next == 1 else extrapolated(x, x_last, h, h_last)
        z = step_with(mean, z, t, t_next)
        x_last, h_last = x, h
    return z
