"""Log-likelihoods, where they are known: Gaussians with their exact denoiser."""

import math
from dataclasses import replace

import pytest
import torch
from posterior import MEAN, STD, Field

from rawdiff.conditions import Conditions
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Moments, Statistics
from rawdiff.density import bits_per_value, dequantized, log_density
from rawdiff.errors import UserError
from rawdiff.sample_settings import SampleSettings

FIELD = Field(size=4, length=1.2)
NUM_VALUES = 16
CUT = 1e-3
SETTINGS = SampleSettings(num_steps=50)


def closed_form(field, x, known=slice(None)):
    mean = torch.full((NUM_VALUES,), MEAN).double()[known]
    covariance = (STD**2 * field.covariance)[known][:, known]
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    return normal.log_prob(x.flatten(1).double()[:, known])


def likelihood(field, x, num_probes, settings=SETTINGS, first=0):
    index = torch.arange(first, first + len(x))
    return log_density(field.sampler(), x, index, Conditions(), settings, num_probes, CUT)


@pytest.mark.parametrize("noise_scale", [1.0, 2.0])
def test_the_exact_denoiser_and_divergence_give_the_log_density_of_a_gaussian(noise_scale) -> None:
    field = replace(FIELD, noise_scale=noise_scale)
    x = field.draw(8, seed=0)
    assert torch.allclose(likelihood(field, x, NUM_VALUES), closed_form(field, x), atol=0.005)


def test_what_noise_a_cut_leaves_belongs_to_the_density() -> None:
    x, cut = FIELD.draw(8, seed=0), 0.2
    index = torch.arange(8)
    sampler = FIELD.sampler()
    found = log_density(sampler, x, index, Conditions(), SETTINGS, NUM_VALUES, cut)
    noise = (cut / (1 - cut)) ** 2 * torch.eye(NUM_VALUES)
    covariance = STD**2 * (FIELD.covariance + noise)
    mean = torch.full((NUM_VALUES,), MEAN).double()
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    assert torch.allclose(found, normal.log_prob(x.flatten(1).double()), atol=0.05)


def test_random_probes_give_the_same_in_the_mean() -> None:
    x = FIELD.draw(1, seed=0)
    found = likelihood(FIELD, x.expand(400, 1, 4, 4), 1)
    error = float(found.std()) / 20
    assert 0.02 < error < 0.5  # probes differ from sample to sample
    assert abs(float(found.mean() - closed_form(FIELD, x))) < 4 * error
    often = likelihood(FIELD, x.expand(100, 1, 4, 4), 8)
    assert float(often.std()) < 0.5 * float(found.std())


def test_a_likelihood_depends_on_the_seed_and_the_number_of_the_sample_alone() -> None:
    x = FIELD.draw(4, seed=0)
    together = likelihood(FIELD, x, 1)
    assert torch.allclose(likelihood(FIELD, x[2:3], 1, first=2), together[2:3], atol=1e-3)
    other = likelihood(FIELD, x, 1, SETTINGS.model_copy(update={"seed": 1}))
    assert not torch.allclose(other, together, atol=1e-3)


def test_values_that_are_missing_by_nature_do_not_count() -> None:
    """Of a denoiser of the first two rows alone, the density of these."""
    seen = slice(0, 8)
    exact, c = FIELD.sampler(), FIELD.covariance[seen, seen].float()
    ever = torch.zeros(1, 4, 4, dtype=torch.bool)
    ever[:, :2] = True
    moments = Moments(torch.tensor([MEAN]), torch.tensor([STD]))
    statistics = Statistics(moments, ever, missing_varies=False)
    patcher = Patcher(exact.patcher.adapter, statistics, exact.patcher.grid)

    def network(z, t, label, **known):
        t = t[0]
        covariance = t**2 * c + (1 - t) ** 2 * torch.eye(8)
        raw = patcher.raw(z).flatten(1)
        x = t * raw[:, seen] @ torch.linalg.solve(covariance, c) + 5 * raw[:, 8:]  # which are 0
        return patcher.adapter.patchify(torch.cat((x, raw[:, 8:] + 1), 1).view(-1, 1, 4, 4))

    sampler = replace(exact, network=network, patcher=patcher)
    x = FIELD.draw(4, seed=0)
    with pytest.raises(UserError, match="has values where the training data have none"):
        log_density(sampler, x, torch.arange(4), Conditions(), SETTINGS, NUM_VALUES, CUT)
    x[:, :, 2:] = torch.nan
    found = log_density(sampler, x, torch.arange(4), Conditions(), SETTINGS, NUM_VALUES, CUT)
    assert torch.allclose(found, closed_form(FIELD, x, seen), atol=0.005)


def test_whole_numbers_are_spread_evenly_over_their_levels() -> None:
    x = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    index = torch.arange(50)
    u = dequantized(x, index, seed=0) - x
    assert u.min() >= -0.5
    assert u.max() <= 0.5
    assert float(u.mean()) == pytest.approx(0, abs=0.01)
    assert float(u.var()) == pytest.approx(1 / 12, rel=0.03)
    assert torch.equal(dequantized(x[7:8], index[7:8], seed=0), (x + u)[7:8])


def test_a_uniform_density_over_256_levels_has_8_bits() -> None:
    log_p = torch.tensor([-12 * math.log(256)])
    assert float(bits_per_value(log_p, torch.tensor([12.0]))) == pytest.approx(8)


def test_samples_that_the_model_cannot_know_are_refused() -> None:
    x = FIELD.draw(2, seed=0)
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="trained on data without"):
        likelihood(FIELD, x, 1)
    x[0, 0, 0, 0] = torch.inf
    with pytest.raises(UserError, match="infinite"):
        likelihood(FIELD, x, 1)
