"""Solvers against the exact denoiser of a Gaussian: no training, no network."""

import math

import pytest
import torch
from torch import Tensor

from rawdiff.flow.solvers import SOLVERS, SolverName, time_grid

MEAN, STD = 1.5, 0.5


def exact_velocity(z: Tensor, t: Tensor) -> Tensor:
    """dz/dt for x ~ N(MEAN, STD²), eps ~ N(0, 1): z_t is Gaussian, so v is linear in z."""
    variance = t**2 * STD**2 + (1 - t) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (z - t * MEAN)


def exact_end(z_0: Tensor) -> Tensor:
    return MEAN + STD * z_0


@pytest.mark.parametrize(("solver", "num_steps"), [("euler", 400), ("heun", 50)])
def test_mean_and_spread_of_a_gaussian_are_recovered(solver: SolverName, num_steps: int) -> None:
    z_0 = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z_0 = (z_0 - z_0.mean()) / z_0.std()
    x = SOLVERS[solver](exact_velocity, z_0, time_grid(num_steps).double())
    assert abs(float(x.mean()) / MEAN - 1) < 0.01
    assert abs(float(x.std()) / STD - 1) < 0.01


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_halving_the_step_shows_the_order(solver: SolverName, order: int) -> None:
    z_0 = torch.linspace(-2, 2, 9, dtype=torch.float64)

    def error(num_steps: int) -> float:
        times = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
        return float((SOLVERS[solver](exact_velocity, z_0, times) - exact_end(z_0)).norm())

    measured = math.log2(error(128) / error(256))
    assert abs(measured - order) < 0.15


def test_heun_ends_with_an_euler_step() -> None:
    times_seen = []

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        times_seen.append(float(t))
        return torch.zeros_like(z)

    SOLVERS["heun"](velocity, torch.zeros(1), time_grid(2))
    assert times_seen == [0.0, 0.5, 0.5]
