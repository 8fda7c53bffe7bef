"""Samples that agree with an observation, where the posterior is known: Gaussian fields."""

from dataclasses import replace

import pytest
import torch
from posterior import MEAN, STD, Case, Field, cases, score

from rawdiff.conditions import Conditions
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import draw_all
from rawdiff.steer.mmps import MMPS, conjugate_gradients

FIELD = Field(size=4, length=1.2)
EXACT = {"name": "mmps", "num_iterations": 8}


@pytest.mark.parametrize("observed", ["half", "blocks", "stations"])
def test_moment_matching_has_the_mean_variance_and_coverage_of_the_posterior(observed) -> None:
    case = cases(FIELD, noise=0.1)[observed]
    found = score(FIELD, case, EXACT, num_truths=150, num_steps=30)
    assert found["mean_error"] < 0.05
    assert found["variance_error"] < 0.05
    assert 0.87 < found["coverage"] < 0.93


def test_the_noise_of_the_network_is_taken_into_account() -> None:
    """V[x | z_t] grows with the square of `flow.noise_scale`."""
    field = Field(size=4, length=1.2, noise_scale=2.0)
    case = Case({"name": "coarsen", "factor": 2}, noise=0.5)
    found = score(field, case, EXACT, num_truths=10, num_steps=30)
    assert found["mean_error"] < 0.05
    assert found["variance_error"] < 0.05


def test_a_network_that_is_too_sure_of_noise_near_the_start_is_held_to_the_prior() -> None:
    """V would be a hundred times too large there, and the observation weigh as much more."""
    field = Field(size=4, length=1.2)
    exact = field.sampler()

    def network(z, t, label, **known):
        extra = torch.where(t[:, None, None] < 0.1, 0.3, 0.0)  # of z, in place of t z at most
        return exact.network(z, t, label) + extra * (z - z.detach())  # in the derivative alone

    spreads = []

    class Spy(MMPS):
        def steer(self, moment):
            spreads.append((float(moment.t), float(moment.spread.max())))
            return super().steer(moment)

    sampler = replace(exact, network=network)
    settings = SampleSettings(observe={"method": Spy(), "noise_std": STD}, num_steps=10)
    settings, conditions = sampler.observing(settings, Conditions(), 4, field.draw(1, seed=0)[0])
    sampler.draw(torch.arange(4), conditions, settings)
    assert spreads[0][1] * 0.3 < 3.0  # V of about the spread of the data, instead of 30
    for t, spread in spreads:
        if t > 0.2:
            assert spread == pytest.approx((1 - t) ** 2 / t, rel=1e-5)


def test_an_observation_of_pure_noise_says_nothing() -> None:
    """Then the posterior is the prior."""
    field = Field(size=4)
    case = Case({"name": "coarsen", "factor": 2}, noise=1000.0)
    x = _draw(field, case, 2000, noise_std=1000 * STD, values=torch.full((1, 2, 2), MEAN))
    free = torch.cat(list(draw_all(field.sampler(), 2000, Conditions(), SampleSettings())))
    assert torch.allclose(x, free, atol=0.03 * STD)


def _draw(field, case, num, *, values, first=0, batch_size=2000, **observe):
    sampler = field.sampler()
    settings = SampleSettings(
        observe={"operator": case.operator} | observe, num_steps=20, batch_size=batch_size
    )
    settings, conditions = sampler.observing(settings, Conditions(), num, values)
    return torch.cat(list(draw_all(sampler, num, conditions, settings, first_index=first)))


@pytest.mark.parametrize("method", ["mmps", "dps", "replacement"])
def test_a_sample_depends_on_its_number_alone(method) -> None:
    field = Field(size=4)
    case = Case({"name": "mask"}, noise=0.1)
    values = field.draw(5, seed=0)
    values[:, :, 2:] = torch.nan
    values[1] = torch.nan  # nothing was seen of one of them
    values[3] += 100 * STD  # nor does it matter how hard another one is
    together = _draw(field, case, 5, values=values, method=method)
    for i in (0, 2):
        alone = _draw(field, case, 1, values=values[i : i + 1], first=i, method=method)
        assert torch.allclose(alone[0], together[i], atol=1e-3)
        in_parts = _draw(field, case, 5, values=values, method=method, batch_size=2)
        assert torch.allclose(in_parts[i], together[i], atol=1e-3)
    free = _draw(field, case, 2, values=values[:2], method=method)[1]
    assert torch.isfinite(free).all()


def test_replacement_keeps_what_is_seen_to_the_bit() -> None:
    field = Field(size=4)
    values = field.draw(3, seed=0)
    values[:, :, :, 1:] = torch.nan
    case = Case({"name": "mask"}, noise=0.1)
    for num_resamples in (1, 4):
        method = {"name": "replacement", "num_resamples": num_resamples}
        x = _draw(field, case, 3, values=values, method=method)
        assert torch.equal(x[:, :, :, 0], values[:, :, :, 0])
        assert x.isfinite().all()


def test_resampling_brings_the_rest_nearer_to_the_posterior() -> None:
    case = cases(FIELD, noise=0.01)["half"]
    once, often = (
        score(FIELD, case, {"name": "replacement", "num_resamples": n}, num_truths=10)
        for n in (1, 10)
    )
    assert often["mean_error"] < 0.8 * once["mean_error"]


def test_diffusion_posterior_sampling_follows_the_observation() -> None:
    case = cases(FIELD, noise=0.1)["blocks"]
    found = score(FIELD, case, {"name": "dps", "scale": 0.3}, num_truths=10)
    assert found["mean_error"] < 0.1


def test_conjugate_gradients_solve_each_row_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(6)
    matrix[2] = -matrix[2]  # no covariance: its row stays as it is
    b = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    b[1] = 0
    u = conjugate_gradients(lambda p: (matrix @ p[:, :, None])[:, :, 0], b, 20)
    expected = torch.linalg.solve(matrix, b)
    expected[1:3] = 0
    assert torch.allclose(u, expected, atol=1e-6)
