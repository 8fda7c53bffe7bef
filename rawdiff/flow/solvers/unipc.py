"""UniPC, second order: its corrector costs no evaluation. (Zhao et al. 2023, arXiv 2302.04867)"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from rawdiff.flow.solvers.exponential import extrapolated, half_log_snr, step_with
from rawdiff.flow.solvers.velocity import Velocity


def unipc(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
    """DPM-Solver++(2M) predicts; x found there corrects the step and serves the next one.

    UniP-2 and UniC-2 of data prediction with B(h) = exp(h) - 1. The last step is not corrected; it
    ends at x.
    """
    x, x_last, h_last = z + (1 - times[0]) * velocity(z, times[0]), None, math.inf
    for t, t_next in pairwise(times[:-1]):
        h = half_log_snr(t_next) - half_log_snr(t)
        guess = step_with(extrapolated(x, x_last, h, h_last), z, t, t_next)
        x_next = guess + (1 - t_next) * velocity(guess, t_next)
        z = step_with(_corrected(x_last, x, x_next, h_last, h), z, t, t_next)
        x_last, x, h_last = x, x_next, h
    t, t_next = times[-2:]
    if t_next < 1:
        x = extrapolated(x, x_last, half_log_snr(t_next) - half_log_snr(t), h_last)
    return step_with(x, z, t, t_next)


def _corrected(x_last: Tensor | None, x: Tensor, x_next: Tensor, h_last: float, h: float) -> Tensor:
    """The mean over a step, weighted by exp(lambda), of the parabola through three values of x.

    With s = 0 at x and 1 at x_next: `mean` and `mean_square` are those of s. The first step has
    the mean of both ends, as the paper's first order.
    """
    if x_last is None:
        return (x + x_next) / 2
    place = -h_last / h  # of x_last; -inf after a step from t = 0, which then weighs nothing
    end = -1 / math.expm1(-h)
    mean = end - 1 / h
    mean_square = end - 2 / h * mean
    weight_last = (mean_square - mean) / (place * (place - 1))
    weight_next = mean - (mean_square - mean) / (place - 1)
    return x + weight_last * (x_last - x) + weight_next * (x_next - x)
