"""Solvers against exact denoisers of Gaussians and mixtures of them: no training, no network."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from rawdiff.flow.solvers import SOLVERS, SolverName
from rawdiff.flow.solvers.ancestral import ancestral
from rawdiff.flow.solvers.churn import churn
from rawdiff.flow.times import linear

MEAN, STD = 1.5, 0.5
FIRST, LAST = 0.02, 0.98  # times between which lambda is finite
ORDERS: list[tuple[SolverName, int]] = [
    ("euler", 1),
    ("heun", 2),
    ("ab2", 2),
    ("dpmpp_2m", 2),
    ("unipc", 3),
]


def exact_velocity(z: Tensor, t: Tensor) -> Tensor:
    """dz/dt for x ~ N(MEAN, STD²), eps ~ N(0, 1): z_t is Gaussian, so v is linear in z."""
    variance = t**2 * STD**2 + (1 - t) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (z - t * MEAN)


def exact_way(z_0: Tensor, t: float) -> Tensor:
    """Where the way from z_0 is at time t."""
    return t * MEAN + math.sqrt(t**2 * STD**2 + (1 - t) ** 2) * z_0


class Mixture:
    """x ~ equal parts of three N(center, STD²) in `num_dims`, with the exact velocity."""

    def __init__(self, num_dims: int) -> None:
        self.generator = torch.Generator().manual_seed(num_dims)
        directions = self.noise(3, num_dims)
        self.centers = 1.5 * directions / directions.norm(dim=1, keepdim=True)

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        """That of each part, weighted by the probability that z belongs to it."""
        variance = t**2 * STD**2 + (1 - t) ** 2
        away = z[:, None] - t * self.centers
        weight = torch.softmax(-away.square().sum(-1) / (2 * variance), dim=1)[..., None]
        v = self.centers + (t * STD**2 - (1 - t)) / variance * away
        return (weight * v).sum(1)

    def draw(self, num_samples: int) -> Tensor:
        parts = torch.randint(3, (num_samples,), generator=self.generator)
        return self.centers[parts] + STD * self.noise(num_samples, self.centers.shape[1])


def even(num_steps: int) -> Tensor:
    """Evenly spaced times, float64."""
    return torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)


def even_in_lambda(num_steps: int) -> Tensor:
    """From FIRST to LAST."""
    bounds = torch.logit(torch.tensor([FIRST, LAST], dtype=torch.float64)).tolist()
    return torch.sigmoid(torch.linspace(*bounds, num_steps + 1, dtype=torch.float64))


def measured_order(
    error: Callable[[int], Tensor], numbers: Sequence[int] = (64, 128, 256)
) -> float:
    """The slope of log(error) over log(step), by least squares."""
    errors = [float(error(n).norm()) for n in numbers]
    return float(np.polyfit(-np.log(numbers), np.log(errors), 1)[0])


@pytest.mark.parametrize(("solver", "num_steps"), [("euler", 400), ("heun", 50)])
def test_mean_and_spread_of_a_gaussian_are_recovered(solver: SolverName, num_steps: int) -> None:
    z_0 = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z_0 = (z_0 - z_0.mean()) / z_0.std()
    x = SOLVERS[solver](exact_velocity, z_0, linear(num_steps).double())
    assert abs(float(x.mean()) / MEAN - 1) < 0.01
    assert abs(float(x.std()) / STD - 1) < 0.01


@pytest.mark.parametrize(("solver", "order"), ORDERS)
def test_shorter_steps_show_the_order_on_a_gaussian(solver: SolverName, order: int) -> None:
    z_0 = torch.linspace(-2, 2, 9, dtype=torch.float64)

    def error(num_steps: int) -> Tensor:
        z = exact_way(z_0, FIRST)
        return SOLVERS[solver](exact_velocity, z, even_in_lambda(num_steps)) - exact_way(z_0, LAST)

    assert abs(measured_order(error) - order) < 0.1


@pytest.mark.parametrize("num_dims", [2, 64])
@pytest.mark.parametrize(("solver", "order"), ORDERS)
def test_shorter_steps_show_the_order_on_a_mixture(
    solver: SolverName, order: int, num_dims: int
) -> None:
    mixture, end = mixture_with_end(num_dims)
    z_0 = Mixture(num_dims).noise(32, num_dims)

    def error(num_steps: int) -> Tensor:
        return SOLVERS[solver](mixture.velocity, z_0, even_in_lambda(num_steps)) - end

    assert abs(measured_order(error) - order) < 0.1


@cache
def mixture_with_end(num_dims: int) -> tuple[Mixture, Tensor]:
    """A mixture, and where 32 ways through it end, by very many steps."""
    mixture = Mixture(num_dims)
    z = Mixture(num_dims).noise(32, num_dims)
    return mixture, SOLVERS["heun"](mixture.velocity, z, even_in_lambda(4000))


@pytest.mark.parametrize("shift", [1, 3])
@pytest.mark.parametrize(
    ("solver", "order"),
    # near t = 0 and 1 steps that are short in t stay long in lambda. This leaves the corrector one
    # order, and 2M an error of step² log(1 / step), whose slope is 2 - 1 / log(1 / step) = 1.85
    [("euler", 1), ("heun", 2), ("ab2", 2), ("dpmpp_2m", 1.8), ("unipc", 2)],
)
def test_the_order_stays_on_the_whole_way_from_noise_to_data(
    solver: SolverName, order: float, shift: float
) -> None:
    z_0 = torch.linspace(-2, 2, 9, dtype=torch.float64)

    def error(num_steps: int) -> Tensor:
        t = even(num_steps)
        times = t / (t + shift * (1 - t))
        return SOLVERS[solver](exact_velocity, z_0, times) - exact_way(z_0, 1)

    assert abs(measured_order(error, (512, 1024)) - order) < 0.1


def test_each_solver_takes_one_step_alone() -> None:
    z_0 = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for solve in (*SOLVERS.values(), churn(9, (0, 1), torch.ones), ancestral(1, torch.ones)):
        x = solve(exact_velocity, z_0, even(1))
        assert torch.allclose(x, torch.full_like(z_0, MEAN)), solve


def test_steps_of_unequal_length_keep_the_second_order() -> None:
    """As they do not with weights for equal ones."""
    z_0 = torch.linspace(-2, 2, 9, dtype=torch.float64)

    def error(num_steps: int) -> Tensor:
        t = even(num_steps)
        uneven = t.clone()
        uneven[1:-1:2] += 0.4 / num_steps  # steps of 1.4, 0.6, 1.4, …
        return SOLVERS["ab2"](exact_velocity, z_0, uneven) - exact_way(z_0, 1)

    assert measured_order(error) > 1.9


def test_heun_ends_with_an_euler_step() -> None:
    times_seen = []

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        times_seen.append(float(t))
        return torch.zeros_like(z)

    SOLVERS["heun"](velocity, torch.zeros(1), linear(2))
    assert times_seen == [0.0, 0.5, 0.5]


def test_without_noise_stochastic_solvers_are_euler_s_and_heun_s() -> None:
    mixture = Mixture(2)
    z, times = mixture.noise(16, 2), even(9)

    def no_noise(step: int) -> Tensor:
        return torch.full_like(z, torch.nan if step == 0 else 0)

    with_eta = ancestral(0, no_noise)(mixture.velocity, z, times)
    assert torch.allclose(with_eta, SOLVERS["euler"](mixture.velocity, z, times), atol=1e-12)
    expected = SOLVERS["heun"](mixture.velocity, z, times)
    for amount, interval in ((0, (0, 1)), (9, (0.31, 0.32)), (9, (0, 0))):
        found = churn(amount, interval, no_noise)(mixture.velocity, z, times)
        assert torch.equal(found, expected), (amount, interval)


def test_churn_draws_from_the_mixture() -> None:
    """Mean and covariance, within what chance leaves of 20,000 samples."""
    mixture, num = Mixture(2), 20_000
    solver = churn(30, (0, 1), lambda step: mixture.noise(num, 2))
    x = solver(mixture.velocity, mixture.noise(num, 2), even(60))
    between = mixture.centers - mixture.centers.mean(0)
    covariance = between.T @ between / 3 + STD**2 * torch.eye(2)
    spread = covariance.diag().sqrt()
    assert ((x.mean(0) - mixture.centers.mean(0)).abs() < 4.5 * spread / math.sqrt(num)).all()
    error = (torch.cov(x.T) - covariance).abs()
    chance = (torch.outer(spread, spread).square() + covariance.square()).sqrt() / math.sqrt(num)
    assert (error < 4.5 * chance).all()
    still = SOLVERS["heun"](mixture.velocity, mixture.noise(num, 2), even(60))
    assert not torch.allclose(x, still, atol=0.1)


def test_churn_steps_back_to_the_time_of_the_noise_that_it_has() -> None:
    """z of exact noise stays so: at t, and at the earlier time with (1 + gamma) sigma."""
    num, seen = 100_000, {}
    generator = torch.Generator().manual_seed(0)

    def noise(step: int = 0) -> Tensor:
        return torch.randn(num, generator=generator, dtype=torch.float64)

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        seen[float(t)] = float(z.std())
        return exact_velocity(z, t)

    churn(8, (0.5, 0.5), noise)(velocity, noise(), even(20))
    earlier = 0.5 / (0.5 + 1.4 * 0.5)
    assert seen[earlier] == pytest.approx(math.hypot(earlier * STD, 1 - earlier), rel=0.02)
    assert 0.5 in seen  # where Heun's step to it ended
