"""What exponential integrators share: only x is approximated over a step, noise falls exactly.

With alpha = t, sigma = 1 - t and lambda = log(alpha / sigma), half the log of the signal-to-noise
ratio, the way from t to t_next is

    z_next = sigma_next / sigma z + sigma_next (integral of exp(lambda) x d lambda).

An x that stays the same through the step leaves z + (t_next - t) / (1 - t) (x - z): Euler's step,
which needs no lambda, may begin at t = 0 and ends at x for t_next = 1. Methods of higher order put
a better mean of x in its place. (Lu et al. 2022, arXiv 2211.01095, eq. 9)
"""

from __future__ import annotations

import math

from torch import Tensor


def half_log_snr(t: Tensor) -> float:
    """lambda = log(t / (1 - t)), in float64; -inf at t = 0 and inf at t = 1."""
    data = float(t)
    if data <= 0:
        return -math.inf
    return math.inf if data >= 1 else math.log(data) - math.log1p(-data)


def step_with(x: Tensor, z: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """z at t_next for a mean x over the step, weighted by exp(lambda)."""
    return z + (t_next - t) / (1 - t) * (x - z)


def extrapolated(x: Tensor, x_last: Tensor | None, h: float, h_last: float) -> Tensor:
    """x at the middle of a step of h in lambda, on the line through x and the one h_last before.

    Just x where there is none before, or infinitely far: after a step from t = 0.
    """
    return x if x_last is None else x + h / (2 * h_last) * (x - x_last)
