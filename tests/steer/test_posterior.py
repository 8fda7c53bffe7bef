"""Samples that agree with an observation, where the posterior is known: Gaussian fields."""

from dataclasses import replace

import pytest
import torch
from posterior import MEAN, STD, Case, Field, cases, draw, score

from rawdiff.conditions import Conditions
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import draw_all
from rawdiff.steer.method import Moment
from rawdiff.steer.mmps import MMPS
from rawdiff.steer.residuals import Triple, minimal_residuals

FIELD = Field(size=4, length=1.2)
EXACT = {"name": "mmps"}


@pytest.mark.parametrize("observed", ["half", "blocks", "stations"])
def test_moment_matching_has_the_mean_variance_and_coverage_of_the_posterior(observed) -> None:
    case = cases(FIELD, noise=0.1)[observed]
    found = score(FIELD, case, EXACT, num_truths=150, num_steps=30)
    assert found["mean_error"] < 0.05
    assert found["variance_error"] < 0.05
    assert 0.87 < found["coverage"] < 0.93


@pytest.mark.parametrize(
    ("observed", "noise", "settings"),
    [
        ("half", 0.01, {}),
        ("half", 0.01, {"solver": "unipc", "num_steps": 25}),
        ("half", 0.03, {}),
        ("stations", 0.01, {}),
    ],
)
def test_it_has_them_where_many_smooth_values_are_seen_almost_exactly(
    observed, noise, settings
) -> None:
    """Steps of 0.02 do not resolve how seen values vary: the last one draws it."""
    field = Field()
    found = score(field, cases(field, noise)[observed], EXACT, num_truths=60, **settings)
    assert found["mean_error"] < 0.05
    assert found["variance_error"] < 0.05
    assert 0.87 < found["coverage"] < 0.93
    assert found.get("coverage_seen", 0.9) == pytest.approx(0.9, abs=0.03)
    assert found["derivatives"] < 6 * found["evaluations"]


@pytest.mark.parametrize("noise", [0.003, 0.03, 0.3])
def test_seen_values_vary_as_the_noise_leaves_open(noise) -> None:
    """Be it far less, as much or far more than what the last step leaves unknown."""
    case = cases(FIELD, noise)["half"]
    seen = list(case.seen)
    a, c = case.matrix(FIELD), FIELD.covariance
    gain = c @ a.T @ torch.linalg.inv(a @ c @ a.T + noise**2 * torch.eye(len(a)).double())
    expected = (c - gain @ a @ c).diagonal()[seen]
    y = case.observe(FIELD, FIELD.draw(1, seed=1), seed=2)[0]
    x = draw(FIELD, case, y, 4000, EXACT, num_steps=30)[:, seen]
    assert float((x.var(0) / expected).mean()) == pytest.approx(1, abs=0.07)


def test_one_step_is_enough_for_a_draw() -> None:
    case = cases(FIELD, noise=0.1)["half"]
    y = case.observe(FIELD, FIELD.draw(1, seed=1), seed=2)[0]
    x = draw(FIELD, case, y, 500, EXACT, num_steps=1)
    assert x.isfinite().all()


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


def _systems():
    """S [4, 6, 6] of derivatives that are not symmetric, one of them not positive, and b [4, 6]."""
    generator = torch.Generator().manual_seed(0)
    root, other = torch.randn(2, 4, 6, 6, generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(6) + 0.3 * other
    matrix[2] = matrix[2] - 10 * torch.eye(6)
    b = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    b[1] = 0
    return matrix, b


def _residuals(matrix, b, *, guess=None, num_iterations=6, tolerance=1e-9):
    asked = []

    def triple(u):
        asked.append(u)
        return Triple(u, (matrix @ u[:, :, None])[:, :, 0], 2 * u.repeat(1, 2))

    found = minimal_residuals(
        triple,
        b,
        torch.zeros(len(b), 12, dtype=b.dtype),
        guess=guess,
        num_iterations=num_iterations,
        tolerance=tolerance,
    )
    return found, len(asked)


def test_conjugate_residuals_solve_each_row_by_itself() -> None:
    matrix, b = _systems()
    found, _ = _residuals(matrix, b)
    assert torch.allclose(found.u, torch.linalg.solve(matrix, b), atol=1e-6)
    assert torch.allclose(found.image, 2 * found.u.repeat(1, 2))
    assert (found.u[1] == 0).all()
    for start in (None, torch.linalg.solve(matrix, b) + 0.1):
        roughly, _ = _residuals(matrix, b, guess=start, num_iterations=5, tolerance=0.2)
        harder = b.clone()
        harder[0] = 1000 * b[0].flip(0)  # nor do others count
        again, _ = _residuals(matrix, harder, guess=start, num_iterations=5, tolerance=0.2)
        assert torch.equal(again.u[1:], roughly.u[1:])
        left = (b - (matrix @ roughly.u[:, :, None])[:, :, 0]).norm(dim=-1)
        assert (left <= b.norm(dim=-1)).all()


def test_a_good_guess_saves_iterations_and_a_bad_one_does_no_harm() -> None:
    matrix, b = _systems()
    u = torch.linalg.solve(matrix, b)
    found, asked = _residuals(matrix, b, guess=0.9 * u)
    assert asked == 1
    assert torch.allclose(found.u, u, atol=1e-6)
    bad = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, _ = _residuals(matrix, b, guess=1e6 * bad, num_iterations=7)
    assert torch.allclose(found.u, u, atol=1e-4)


def test_what_is_remembered_is_of_this_batch_alone_and_continues_as_a_line() -> None:
    """The first evaluation begins at 0; later ones where the line through the last two leads."""
    field, guesses = Field(size=4), []

    class Spy(MMPS):
        def steer(self, moment: Moment) -> torch.Tensor:
            guesses.append([t for t, _ in moment.memory])
            return super().steer(moment)

    settings = SampleSettings(observe={"method": Spy(), "noise_std": STD}, num_steps=3)
    sampler = field.sampler()
    settings, conditions = sampler.observing(settings, Conditions(), 2, field.draw(1, seed=0)[0])
    first = sampler.draw(torch.arange(2), conditions, settings)
    one, two = pytest.approx(0.01), pytest.approx(1 / 3)
    assert guesses[:4] == [[], [one], [one, two], [one, two]]
    assert torch.equal(sampler.draw(torch.arange(2), conditions, settings), first)
    assert guesses[len(guesses) // 2] == []
