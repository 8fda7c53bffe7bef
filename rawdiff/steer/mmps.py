"""Moment matching: the observation weighs against how sure the network is of each value.

Rozet et al. 2024, "Learning diffusion priors from observations by expectation maximization",
arXiv 2405.13712, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.steer.method import Method, Moment

SOLVED = 1e-5  # of the residual at first, in norm


class MMPS(Method):
    """E[x | z, y] = x + V A^T u with (A V A^T + Sigma_y) u = y - A x and V = V[x | z].

    V is (1 - t)² noise_std² / t times the network's derivative dx/dz, which is symmetric for the
    exact denoiser; near t = 0, where networks hardly learn it, V is held to the data's spread. u is
    found by `num_iterations` of conjugate gradients, each the price of a backward pass. Exact for
    Gaussian data and linear operators, if the iterations suffice.
    """

    num_iterations: int = Field(default=5, ge=1)
    """Iterations of conjugate gradients in each call of the network. [iterations]"""

    def steer(self, moment: Moment) -> Tensor:
        x = moment.x.detach().requires_grad_()
        evidence = moment.evidence
        y_hat = evidence.measure(x)
        bar = torch.zeros_like(y_hat, requires_grad=True)
        x_bar = torch.autograd.grad(y_hat, x, bar, create_graph=True)[0]  # linear in bar

        def transposed(u: Tensor) -> Tensor:
            """V A^T u, for u [B, M]."""
            (x_bar,) = torch.autograd.grad(y_hat, x, u, retain_graph=True)
            return moment.spread * moment.backward(x_bar)

        def covariance(u: Tensor) -> Tensor:
            """(A V A^T + Sigma_y) u, where Sigma_y is 1 by the units of the evidence."""
            dx = transposed(u)
            return u + torch.autograd.grad(x_bar, bar, dx, retain_graph=True)[0]

        residual = (evidence.y - y_hat).detach()
        u = conjugate_gradients(covariance, residual, self.num_iterations)
        return moment.x.detach() + transposed(u)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, num_iterations: int
) -> Tensor:
    """u [B, M] with `product(u)` near b: the best of the iterates, each row by itself.

    A row is done where it is solved, or where the product is not positive, as it may be where a
    network's derivative is not symmetric. (Hestenes and Stiefel 1952)
    """
    u = best = torch.zeros_like(b)
    r = p = b
    r_r = least = _dot(r, r)
    enough = r_r * SOLVED**2
    active = r_r > 0
    for _ in range(num_iterations):
        if not bool(active.any()):
            break
        product_p = product(p)
        curvature = _dot(p, product_p)
        active = active & (curvature > 0)
        step = torch.where(active, r_r / curvature, 0.0)
        u, r = u + step * p, r - step * product_p
        before, r_r = r_r, _dot(r, r)
        p = r + torch.where(active, r_r / before, 0.0) * p
        active = active & (r_r > enough)
        better = r_r < least
        best, least = torch.where(better, u, best), torch.where(better, r_r, least)
    return best


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """[B, 1]"""
    return (a * b).sum(-1, keepdim=True)
