"""Scores of forecasts equal those of the package `scores`, with weights and missing values."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from forecast_cases import LATITUDES, LONGITUDES, Forecasts, forecasts, scores_of, table
from rawdiff_weather.area import area_weights, latitude_regions
from scores.continuous import additive_bias, mae, mse, rmse
from scores.continuous.correlation import pearsonr
from scores.probability import crps_for_ensemble, rank_histogram

MEMBERS = [1, 2, 5, 50]
REGIONS = latitude_regions(LATITUDES, len(LONGITUDES))
AREA = area_weights(LATITUDES, len(LONGITUDES))


class Oracle:
    """One channel as arrays of xarray; a point with a missing member has no truth either."""

    def __init__(self, cases: Forecasts, channel: int, region: str) -> None:
        members = cases.members[:, :, channel].double()
        gone = members.isnan().any(1)
        truth = cases.truth[:, channel].double().masked_fill(gone, torch.nan)
        self.members = xr.DataArray(members.numpy(), dims=["init", "number", "lat", "lon"])
        self.truth = xr.DataArray(truth.numpy(), dims=["init", "lat", "lon"])
        self.mean = self.members.mean("number", skipna=False)
        self.climatology = xr.DataArray(
            cases.climatology[:, channel].double().numpy(), dims=["init", "lat", "lon"]
        )
        self.weights = xr.DataArray((AREA * REGIONS[region]).numpy(), dims=["lat", "lon"])


@pytest.fixture(params=[(m, r) for m in MEMBERS for r in ("global", "tropics")])
def case(request: pytest.FixtureRequest) -> tuple[dict[str, list[float]], list[Oracle]]:
    num_members, region = request.param
    cases = forecasts(num_members)
    return table(scores_of(cases), region), [Oracle(cases, c, region) for c in range(2)]


def test_scores_of_the_mean_equal_the_oracle(
    case: tuple[dict[str, list[float]], list[Oracle]],
) -> None:
    ours, channels = case
    for name, function in {"rmse": rmse, "bias": additive_bias, "mae": mae}.items():
        expected = [float(function(o.mean, o.truth, weights=o.weights)) for o in channels]
        assert ours[name] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_means_over_inits_equal_the_oracle_init_by_init(
    case: tuple[dict[str, list[float]], list[Oracle]],
) -> None:
    ours, channels = case
    for c, o in enumerate(channels):
        each = rmse(o.mean, o.truth, weights=o.weights, preserve_dims="init")
        assert ours["rmse_per_init"][c] == pytest.approx(float(each.mean()), rel=1e-9)


@pytest.mark.parametrize(("score", "method"), [("crps", "ecdf"), ("fair_crps", "fair")])
def test_crps_equals_the_oracle(
    case: tuple[dict[str, list[float]], list[Oracle]], score: str, method: str
) -> None:
    ours, channels = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fair, of one member: 0 / 0
        expected = [
            float(
                crps_for_ensemble(
                    o.members,
                    o.truth,
                    "number",
                    method=method,  # type: ignore[arg-type]
                    weights=o.weights,
                )
            )
            for o in channels
        ]
    assert ours[score] == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert np.isnan(ours[score]).all() == (method == "fair" and channels[0].members.shape[1] == 1)


def test_spread_skill_equals_its_formula(
    case: tuple[dict[str, list[float]], list[Oracle]],
) -> None:
    ours, channels = case
    for c, o in enumerate(channels):
        M = o.members.sizes["number"]
        if M == 1:
            assert np.isnan(ours["spread_skill"][c])
            continue
        variance = o.members.var("number", ddof=1, skipna=False).where(o.truth.notnull())
        spread = ((M + 1) / M * variance.weighted(o.weights).mean()) ** 0.5
        skill = mse(o.mean, o.truth, weights=o.weights) ** 0.5
        assert ours["spread"][c] == pytest.approx(float(spread), rel=1e-9)
        assert ours["spread_skill"][c] == pytest.approx(float(spread / skill), rel=1e-9)


def test_acc_equals_its_formula_init_by_init(
    case: tuple[dict[str, list[float]], list[Oracle]],
) -> None:
    ours, channels = case
    for c, o in enumerate(channels):
        a, b = o.mean - o.climatology, o.truth - o.climatology
        known = (a * b).notnull()
        product, a_squared, b_squared = (
            (z.where(known) * o.weights).sum(["lat", "lon"]) for z in (a * b, a * a, b * b)
        )
        acc = product / (a_squared * b_squared) ** 0.5
        assert ours["acc"][c] == pytest.approx(float(acc.mean()), rel=1e-9)


def test_acc_is_the_correlation_of_the_oracle_if_anomalies_have_no_mean() -> None:
    cases = forecasts(5, num_inits=1, missing=False)
    cases.truth -= (cases.truth - cases.climatology).mean((-2, -1), keepdim=True)
    drift = cases.members.mean(1) - cases.climatology
    cases.members -= drift.mean((-2, -1), keepdim=True)[:, None]
    ours = table(scores_of(cases, weights=torch.ones(AREA.shape)))
    for c in range(2):
        o = Oracle(cases, c, "global")
        expected = float(pearsonr(o.mean - o.climatology, o.truth - o.climatology))
        assert ours["acc"][c] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("num_members", MEMBERS)
def test_rank_histogram_equals_the_oracle(num_members: int, ties: bool) -> None:
    cases = forecasts(num_members)
    if ties:  # as of rain: few distinct values
        cases.members, cases.truth = (z.div(40).round() for z in (cases.members, cases.truth))
    rows = [row for row in scores_of(cases).result()["ranks"] if row["region"] == "tropics"]
    for c, row in enumerate(rows):
        o = Oracle(cases, c, "tropics")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on missing members
            expected = rank_histogram(o.members, o.truth, "number", weights=o.weights)
        assert row["frequencies"] == pytest.approx(expected.values.tolist(), abs=1e-12)
        assert sum(row["frequencies"]) == pytest.approx(1, abs=1e-12)
