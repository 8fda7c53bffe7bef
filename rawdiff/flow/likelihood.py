"""Log-likelihoods by the ODE of the flow, from data back to noise.

dz/dt = v carries noise to data, and d log p(z_t) / dt = -div v along it. In tau = -log(1 - t) it is
dz/dtau = x - z, which stays finite at the end. (Chen et al. 2018, arXiv 1806.07366; Grathwohl et
al. 2019, arXiv 1810.01367; Song et al. 2021, arXiv 2011.13456, section D.2)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""x(z, t) for z [B, …] and one time t for all; each sample by itself, and torch can derive it."""

Probe: TypeAlias = Callable[[int], Tensor]
"""Number i of them, of the shape of z; the mean of their outer products is the identity."""

T_MIN = 1e-3
"""Before it, the denoiser is asked for this time: at t = 0, eps and v say nothing of x."""


def log_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    known: Tensor | None,
    noise_std: float,
    *,
    num_steps: int,
    cut: float,
    probe: Probe,
    num_probes: int,
) -> Tensor:
    """log p(x) in nats, float64 [B], for standardized x [B, …], of its `known` values (None: all).

    It is the density of data and noise of spread sigma = noise_std cut / (1 - cut), at x: v has
    no end at t = 1, so that the way begins at z = t x with t = 1 - cut. It goes `num_steps` steps
    of Runge's and Kutta's fourth order, even in tau. Each call of the denoiser is derived
    `num_probes` times, once for each probe, for the divergence. (Hutchinson 1990)
    """
    num_values = torch.full((len(x),), x[0].numel(), device=x.device, dtype=torch.float64)
    if known is not None:
        num_values = known.flatten(1).sum(-1).double()
        x = torch.where(known, x, 0.0)
    ones = torch.ones_like(x) if known is None else known.to(x.dtype)

    def slope(z: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """dz/dtau [B, …] and its divergence [B]."""
        t = torch.tensor(-math.expm1(-tau)).clamp(min=T_MIN)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            x_pred = denoiser(z, t) * ones
            trace = torch.zeros(len(z), device=z.device, dtype=torch.float64)
            for i in range(num_probes):
                e = probe(i) * ones
                (e_dx,) = torch.autograd.grad(x_pred, z, e, retain_graph=i + 1 < num_probes)
                trace += (e_dx * e).double().flatten(1).sum(-1) / num_probes
        return (x_pred - z).detach() * ones, trace - num_values

    taus = torch.linspace(-math.log(cut), 0.0, num_steps + 1, dtype=torch.float64).tolist()
    z, integral = (1 - cut) * x, torch.zeros_like(num_values)
    for tau, tau_next in pairwise(taus):
        z, step = _runge_kutta(slope, z, tau, tau_next - tau)
        integral = integral - step
    square = (z * ones).double().flatten(1).square().sum(-1) / noise_std**2
    log_noise = -0.5 * (square + num_values * math.log(2 * math.pi * noise_std**2))
    return log_noise - integral + num_values * math.log1p(-cut)


def _runge_kutta(
    slope: Callable[[Tensor, float], tuple[Tensor, Tensor]], z: Tensor, tau: float, step: float
) -> tuple[Tensor, Tensor]:
    """z at tau + step, and the integral of the divergence from tau to there."""
    k1, d1 = slope(z, tau)
    k2, d2 = slope(z + step / 2 * k1, tau + step / 2)
    k3, d3 = slope(z + step / 2 * k2, tau + step / 2)
    k4, d4 = slope(z + step * k3, tau + step)
    return z + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4), step / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
