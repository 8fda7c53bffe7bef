"""Scores of forecasts against truths of mathematics; sums of parts."""

import csv
import io
import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from forecast_cases import (
    CHANNELS,
    LATITUDES,
    LONGITUDES,
    empty_scores,
    forecasts,
    scores_of,
    table,
)
from rawdiff_weather.area import area_weights
from rawdiff_weather.ensemble import crps, energy_score, rank_weights
from rawdiff_weather.scores import ForecastScores, variable_and_level

from rawdiff.errors import UserError

TABLES = ("scores", "ranks", "spectra", "spherical_spectra")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_crps_of_a_point_mass_is_the_absolute_error() -> None:
    d = noise(40).expand(7, 40)
    ordinary, fair = crps(d)
    torch.testing.assert_close(ordinary, d[0].abs())
    torch.testing.assert_close(fair, d[0].abs())


def test_crps_is_the_double_sum_of_its_formula() -> None:
    x, y = noise(5, 30), noise(30, seed=1)
    apart = (x[:, None] - x).abs().sum((0, 1))
    ordinary, fair = crps(x - y)
    torch.testing.assert_close(ordinary, (x - y).abs().mean(0) - apart / 50)
    torch.testing.assert_close(fair, (x - y).abs().mean(0) - apart / 40)


def test_crps_is_the_integral_of_the_squared_step() -> None:
    """∫ (F(z) - [z ≥ 0])² dz of the empirical distribution F of the errors."""
    d = noise(4, 1)
    z = torch.arange(-8, 8, 1e-4, dtype=torch.float64)
    F = (d <= z).double().mean(0)
    integral = float((F - (z >= 0).double()).square().sum() * 1e-4)
    assert float(crps(d)[0]) == pytest.approx(integral, abs=1e-3)


def test_fair_crps_does_not_depend_on_the_number_of_members_on_average() -> None:
    """Of N(0, 1) against N(0, 1) it is 1/√π, the ordinary one larger by 1/(M √π)."""
    y = noise(200_000, seed=1)
    for M in (2, 5):
        ordinary, fair = crps(noise(M, 200_000) - y)
        assert float(fair.mean()) == pytest.approx(1 / math.sqrt(math.pi), rel=0.01)
        assert float(ordinary.mean()) == pytest.approx((1 + 1 / M) / math.sqrt(math.pi), rel=0.01)


def test_energy_score_is_the_double_sum_of_its_formula_for_each_region() -> None:
    d, weights = noise(5, 30), noise(2, 30, seed=1).square()
    for w, ordinary, fair in zip(weights, *energy_score(d, weights), strict=True):
        norm = w / w.sum()
        distance = (d.square() @ norm).sqrt().mean()
        apart = ((d[:, None] - d).square() @ norm).sqrt().sum()
        assert float(ordinary) == pytest.approx(float(distance - apart / 50), rel=1e-12)
        assert float(fair) == pytest.approx(float(distance - apart / 40), rel=1e-12)


def test_energy_score_of_a_single_point_is_its_crps() -> None:
    d = noise(6, 1)
    for energy, single in zip(energy_score(d, torch.ones(1, 1).double()), crps(d), strict=True):
        torch.testing.assert_close(energy, single, rtol=1e-7, atol=0)


def test_energy_score_of_equal_members_is_their_distance_from_the_truth() -> None:
    d = noise(1, 50).expand(8, 50)
    ordinary, _ = energy_score(d, torch.ones(1, 50).double())
    assert float(ordinary) == pytest.approx(float(d[0].square().mean().sqrt()), abs=1e-6)


def test_tied_ranks_are_the_mean_over_all_ways_to_break_them() -> None:
    """Every order of the truth among the members that equal it, each as often as another."""
    d = torch.tensor([[-1.0], [0.0], [0.0], [2.0]]).double()
    shares = torch.zeros(5).double()
    for order in itertools.permutations(["truth", "a", "b"]):
        shares[1 + order.index("truth")] += 1 / 6
    torch.testing.assert_close(rank_weights(d, torch.ones(1, 1).double())[0], shares)


def calibrated(num_members: int) -> ForecastScores:
    """Members and truth are drawn alike about a signal that differs from init to init."""
    scores = empty_scores(num_members)
    shape = len(CHANNELS), len(LATITUDES), len(LONGITUDES)
    for t in range(300):
        signal = 100 * noise(*shape, seed=3 * t)
        members = signal + noise(num_members, *shape, seed=3 * t + 1)
        scores.update(6, members, signal + noise(*shape, seed=3 * t + 2))
    return scores


@pytest.mark.parametrize("num_members", [2, 5])
def test_a_calibrated_ensemble_has_spread_skill_one_and_flat_ranks(num_members: int) -> None:
    scores = calibrated(num_members)
    values = table(scores)
    assert values["spread_skill"] == pytest.approx([1, 1], rel=0.02)
    assert values["bias"] == pytest.approx([0, 0], abs=0.02)
    for row in scores.result()["ranks"]:
        flat = [1 / (num_members + 1)] * (num_members + 1)
        assert row["frequencies"] == pytest.approx(flat, abs=0.01)


def test_a_forecast_of_the_truth_has_no_error_and_full_correlation() -> None:
    cases = forecasts(3)
    cases.members = cases.truth[:, None].expand_as(cases.members)
    values = table(scores_of(cases))
    for name in ("rmse", "rmse_per_init", "bias", "mae", "crps", "fair_crps", "energy_score"):
        assert values[name] == pytest.approx([0, 0], abs=1e-9)
    assert values["acc"] == pytest.approx([1, 1])


def test_squares_are_averaged_over_inits_before_the_root() -> None:
    scores = empty_scores(1)
    truth = torch.zeros(len(CHANNELS), len(LATITUDES), len(LONGITUDES))
    for error in (3.0, 4.0):
        scores.update(6, (truth + error)[None], truth)
    values = table(scores)
    assert values["rmse"] == pytest.approx([math.sqrt(12.5)] * 2)
    assert values["rmse_per_init"] == pytest.approx([3.5] * 2)


def test_scores_of_one_member_that_need_two_are_nan() -> None:
    values = table(scores_of(forecasts(1)))
    for name in ("fair_crps", "fair_energy_score", "spread", "spread_skill"):
        assert all(math.isnan(value) for value in values[name])
    assert values["crps"] == pytest.approx(values["mae"])
    assert values["energy_score"] == pytest.approx(values["rmse_per_init"])


def test_values_under_missing_truth_or_missing_members_do_not_count() -> None:
    cases = forecasts(5)
    unknown = cases.truth.isnan() | cases.members.isnan().any(1)
    before = scores_of(cases).result()
    cases.members[:, :-1].masked_fill_(unknown[:, None], 1e9)
    cases.climatology.masked_fill_(unknown, 1e9)
    assert scores_of(cases).result() == before


def test_coverage_tells_of_missing_members_and_not_of_missing_truth() -> None:
    cases = forecasts(5, missing=False, num_inits=1)
    cases.truth[:, :, :3] = torch.nan
    assert table(scores_of(cases))["coverage"] == [1, 1]
    cases.members[0, 2, 1, 3:] = torch.nan
    values = table(scores_of(cases))
    assert values["coverage"] == [1, 0]
    assert values["num_inits"] == [1, 0]
    assert math.isnan(values["rmse"][1])
    assert math.isnan(values["energy_score"][1])


def test_an_init_without_truth_changes_nothing() -> None:
    cases = forecasts(5)
    scores, before = scores_of(cases), scores_of(cases).result()
    scores.update(6, cases.members[0], torch.full_like(cases.truth[0], torch.nan))
    assert scores.result() == before


def test_regions_may_be_weights_and_need_not_be_blocks() -> None:
    """A region of weight 2 at two points alone: the mean of their squares by their areas."""
    weights = torch.zeros(len(LATITUDES), len(LONGITUDES))
    weights[1, 0] = weights[4, 5] = 2
    truth = torch.zeros(len(CHANNELS), *weights.shape)
    forecast = truth.clone()
    forecast[:, 1, 0], forecast[:, 4, 5], forecast[:, 0, 0] = 3, 4, 1000
    scores = empty_scores(1, regions={"two": weights})
    scores.update(6, forecast[None], truth)
    area = area_weights(LATITUDES, 1)[:, 0]
    expected = (9 * area[1] + 16 * area[4]) / (area[1] + area[4])
    assert table(scores, "two")["rmse"] == pytest.approx([math.sqrt(expected)] * 2)
    assert scores.result()["spectra"] == []  # it does not go round


def nearly_equal(a: object, b: object) -> bool:
    """Of nested plain data, to the rounding of sums in another order."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(nearly_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(nearly_equal, a, b))
    if isinstance(a, float):
        return a == pytest.approx(b, rel=1e-10, abs=1e-10, nan_ok=True)
    return a == b


@pytest.mark.parametrize("num_members", [1, 5])
def test_parts_of_a_stream_merge_to_the_whole(num_members: int, tmp_path: Path) -> None:
    """Over leads that not every part has, through a file, and on from there."""
    cases = forecasts(num_members)
    weights = torch.arange(1.0, 10)[:, None].expand(9, 12)
    whole, first, second = (empty_scores(num_members, weights=weights) for _ in range(3))
    for t in range(4):
        case = cases.members[t], cases.truth[t], cases.climatology[t]
        for scores in (whole, first if t < 1 else second):
            scores.update(6, *case)
            if t == 3:
                scores.update(12, *case)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    restored = ForecastScores.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert nearly_equal(restored.result(), first.result())
    restored.merge(second)
    assert nearly_equal(restored.result(), whole.result())
    assert not nearly_equal(second.result(), whole.result())
    restored.update(6, *case)
    whole.update(6, *case)
    assert nearly_equal(restored.result(), whole.result())


def test_restoring_and_merging_leave_their_source_alone() -> None:
    scores = scores_of(forecasts(2))
    before = scores.result()
    copy = ForecastScores.from_state(scores.state_dict())
    copy.merge(scores)
    assert scores.result() == before
    assert table(copy)["num_inits"] == [8, 8]


def test_different_scores_do_not_merge() -> None:
    scores = empty_scores(2)
    with pytest.raises(UserError, match="members"):
        scores.merge(empty_scores(3))
    with pytest.raises(UserError, match="weights of points"):
        scores.merge(empty_scores(2, weights=torch.ones(len(LATITUDES), len(LONGITUDES))))


def test_memory_does_not_grow_with_the_number_of_inits() -> None:
    def size(scores: ForecastScores) -> int:
        return sum(values.numel() for values in scores.state_dict()["sums"][6].values())

    assert size(scores_of(forecasts(2, num_inits=1))) == size(scores_of(forecasts(2, num_inits=9)))


def test_result_can_be_written_as_json_and_csv() -> None:
    result = scores_of(forecasts(2)).result()
    assert set(result) == set(TABLES)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    row = result["scores"][0]
    assert list(row) == ["variable", "level", "lead", "region", "score", "value"]
    assert (row["variable"], row["level"], row["lead"]) == ("geopotential", 500, 6)
    writer = csv.DictWriter(io.StringIO(), list(row))
    writer.writerows(result["scores"])


@pytest.mark.parametrize(
    ("channel", "parts"),
    [
        ("geopotential@500", ("geopotential", 500)),
        ("t@0.5", ("t", 0.5)),
        ("2m_temperature", ("2m_temperature", None)),
    ],
)
def test_a_channel_is_a_variable_and_its_level(channel: str, parts: tuple[str, object]) -> None:
    assert str(variable_and_level(channel)) == str(parts)  # 500, not 500.0


def test_arrays_of_another_shape_are_refused() -> None:
    cases = forecasts(2)
    scores = empty_scores(3)
    with pytest.raises(UserError, match=r"The forecast has shape \[2, 2, 9, 12\]"):
        scores.update(6, cases.members[0], cases.truth[0])
    with pytest.raises(UserError, match="The climatology has shape"):
        empty_scores(2).update(6, cases.members[0], cases.truth[0], cases.climatology[0, 0])
    with pytest.raises(UserError, match="weights of `coast`"):
        empty_scores(2, regions={"coast": torch.full((9, 12), torch.nan)})
