"""Measures of calibration, and verdicts where the posterior is known."""

import pytest
import torch
from posterior import STD, Field

from rawdiff.conditions import Conditions
from rawdiff.evaluate.calibration import crps, evenness, interval, ranks
from rawdiff.sample_settings import SampleSettings
from rawdiff.scoring.calibrate import compare, judge

FIELD = Field(size=4, length=1.2)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_ranks_count_members_under_the_truth_and_break_ties_at_random() -> None:
    members = torch.tensor([[[1.0], [2.0], [2.0], [4.0]]])
    ties = torch.tensor([[0.1]])
    found = [int(ranks(members, torch.tensor([[y]]), ties)) for y in (0.0, 1.5, 5.0)]
    assert found == [0, 1, 4]
    tied = {
        int(ranks(members, torch.tensor([[2.0]]), torch.tensor([[u]]))) for u in (0.1, 0.5, 0.9)
    }
    assert tied == {1, 2, 3}


@pytest.mark.parametrize("num_members", [3, 19, 40])
def test_intervals_hold_the_share_that_they_say_of_what_is_like_the_members(num_members) -> None:
    for share in (0.5, 0.9):
        k, expected = interval(share, num_members)
        rank = ranks(normal(2000, num_members, 5), normal(2000, 5, seed=1), torch.rand(2000, 5))
        held = ((rank >= k) & (rank <= num_members - k)).double().mean()
        assert float(held) == pytest.approx(expected, abs=0.02)
    assert interval(0.9, 19) == (1, pytest.approx(0.9))
    assert interval(0.5, 19) == (5, pytest.approx(0.5))


def test_crps_is_that_of_a_normal_distribution_whatever_the_number_of_members() -> None:
    """Of N(0, 1) at y = 0: (sqrt(2) - 1) / sqrt(pi). (Gneiting et al. 2005)"""
    for num_members in (2, 10):
        found = crps(normal(4000, num_members, 10), torch.zeros(4000, 10)).mean()
        assert float(found) == pytest.approx((2**0.5 - 1) / torch.pi**0.5, rel=0.03)


def test_p_values_are_even_of_even_ranks_and_low_of_others() -> None:
    generator = torch.Generator().manual_seed(0)
    p = [evenness(torch.randint(0, 20, (100,), generator=generator), 19)[1] for _ in range(400)]
    assert sum(value < 0.1 for value in p) / 400 == pytest.approx(0.1, abs=0.05)
    counts, low = evenness(torch.cat((torch.zeros(30), torch.full((30,), 19.0))), 19)
    assert sum(counts) == 60
    assert low < 1e-6


def verdict(num_truths=100, **settings):
    observe = {"method": {"name": "mmps", "num_iterations": 8}, "noise_std": 0.3 * STD}
    chosen = SampleSettings.model_validate(
        {"observe": observe, "num_steps": 20, "batch_size": 4000} | settings
    )
    x = FIELD.draw(num_truths, seed=7)
    return judge(compare(FIELD.sampler(), x, 0, Conditions(), chosen, 19), 19)


def test_the_exact_denoiser_is_calibrated() -> None:
    found = verdict()
    assert found.calibrated, found
    assert found.verdict.startswith("Calibrated")


def test_too_little_and_too_much_spread_are_told() -> None:
    assert "too narrow" in verdict(noise_scale=0.5).verdict
    assert "too wide" in verdict(noise_scale=2.0).verdict


def test_draws_that_are_shifted_are_told() -> None:
    found = verdict()
    place = torch.full((100,), 19)
    rows = {"held": torch.tensor([[0.5, 0.9]]).expand(100, 2).double(), "place": place}
    rows |= {"mean": place, "crps": torch.ones(100).double()}
    shifted = judge(rows, 19)
    assert found.calibrated
    assert not shifted.calibrated
    assert "shifted" in shifted.verdict
