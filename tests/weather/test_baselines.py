"""Baselines on series whose climatology and memory are known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rawdiff_weather.baselines import Climatology, Damping, baseline_forecasts
from rawdiff_weather.seasons import SameSeason, natural_season, slot_name, slots
from torch import Tensor

from rawdiff.errors import UserError

MONTHS = np.arange("1990-01", "2000-01", dtype="datetime64[M]").astype("datetime64[ns]")
DAYS = np.arange("1990-01-01", "2000-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
SIX_HOURS = np.arange("1991-01-01", "1993-01-01", np.timedelta64(6, "h"), dtype="datetime64[h]")


def season_at(times: np.ndarray) -> Tensor:
    """A field [T, 1, 2, 2] that depends on the month alone."""
    month = times.astype("datetime64[M]").astype(int) % 12
    wave = torch.from_numpy(np.cos(2 * np.pi * month / 12)).float()
    return 280 + 10 * wave[:, None, None, None] * torch.tensor([[[1.0, 2], [3, 4]]])


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("by", ["month", "day", "hour"])
@pytest.mark.parametrize("times", [DAYS, SIX_HOURS])
def test_climatology_of_a_series_that_repeats_is_the_series(by: str, times: np.ndarray) -> None:
    climatology = Climatology(by)
    climatology.update(times, season_at(times))
    for i in (0, 31, 200, len(times) - 1):
        torch.testing.assert_close(climatology.at(times[i]), season_at(times)[i])


def test_climatology_by_hour_keeps_times_of_day_apart() -> None:
    hours = torch.from_numpy(SIX_HOURS.astype(int) % 24).float()[:, None, None, None]
    climatology = Climatology("hour")
    climatology.update(SIX_HOURS, hours)
    assert climatology.at(np.datetime64("2020-05-05T18:00")).item() == 18
    assert climatology.smoothed(5).at(np.datetime64("2020-05-05T18:00")).item() == 18
    with pytest.raises(UserError, match="5 May, 03:00"):
        climatology.at(np.datetime64("2020-05-05T03:00"))


def test_climatology_is_the_mean_of_what_is_known() -> None:
    x = noise(len(MONTHS), 2, 3, 4)
    x[:, 0, 0, 0] = torch.nan
    x[::5, 1] = torch.nan
    climatology = Climatology("month")
    climatology.update(MONTHS, x)
    torch.testing.assert_close(
        climatology.at(np.datetime64("2005-03-20")), x[2::12].nanmean(0), equal_nan=True
    )
    assert climatology.at(np.datetime64("2005-03-20"))[0, 0, 0].isnan()


def test_parts_of_a_climatology_merge_to_the_whole(tmp_path: Path) -> None:
    x = noise(len(MONTHS), 1, 2, 2)
    whole, first, second = Climatology("month"), Climatology("month"), Climatology("month")
    whole.update(MONTHS, x)
    first.update(MONTHS[:7], x[:7])
    second.update(MONTHS[7:], x[7:])
    torch.save(first.state_dict(), tmp_path / "c.pt")
    restored = Climatology.from_state(torch.load(tmp_path / "c.pt", weights_only=True))
    restored.merge(second)
    for time in MONTHS[:12]:
        torch.testing.assert_close(restored.at(time), whole.at(time))


def test_the_leap_day_lies_between_its_neighbours_even_without_leap_years() -> None:
    times = DAYS[np.datetime64("1992-01-01") > DAYS]
    ramp = torch.from_numpy(slots(times, "day")).float()[:, None, None, None]
    climatology = Climatology("day")
    climatology.update(times, ramp)
    assert climatology.at(np.datetime64("2000-02-29")).item() == 59
    assert climatology.at(np.datetime64("2000-03-01")).item() == 60


def test_smoothing_weighs_days_by_a_triangle_that_goes_round_the_year() -> None:
    pulse = torch.from_numpy(slots(DAYS, "day") == 0).float()[:, None, None, None]
    climatology = Climatology("day")
    climatology.update(DAYS, pulse)
    smooth = climatology.smoothed(5)
    heights = {"06-01": 0, "12-29": 0, "12-30": 1, "12-31": 2, "01-01": 3, "01-02": 2, "01-04": 0}
    for date, height in heights.items():
        assert smooth.at(np.datetime64(f"2001-{date}")).item() == pytest.approx(height / 9)


def test_smoothing_takes_noise_from_a_climatology_and_leaves_a_slow_season() -> None:
    day = torch.from_numpy(slots(DAYS, "day")).double()
    season = (10 * (2 * math.pi * day / 366).cos()).float()[:, None, None, None]
    climatology = Climatology("day")
    climatology.update(DAYS, season + noise(len(DAYS), 1, 4, 4))
    before = torch.stack([climatology.at(time) for time in DAYS[:365]]) - season[:365]
    smooth = climatology.smoothed(21)
    after = torch.stack([smooth.at(time) for time in DAYS[:365]]) - season[:365]
    assert after.square().mean() < before.square().mean() / 8


def test_smoothing_of_months_or_over_an_even_window_is_refused() -> None:
    with pytest.raises(UserError, match="by month"):
        Climatology("month").smoothed()
    with pytest.raises(UserError, match="over 4 days"):
        Climatology("day").smoothed(4)


def test_a_damped_anomaly_has_the_factor_of_its_memory() -> None:
    """a(t + 1) = r a(t) + noise has r after one step and r² after two."""
    r = torch.tensor([[[0.9, 0.5], [0.0, -0.3]]])
    series, shocks = [noise(1, 2, 2)], noise(20_000, 1, 2, 2)
    for shock in shocks:
        series.append(r * series[-1] + shock)
    damping = Damping()
    for t in range(len(series) - 2):
        damping.update(1, series[t], series[t + 1])
        damping.update(2, series[t], series[t + 2])
    torch.testing.assert_close(damping.factor(1), r, atol=0.03, rtol=0)
    torch.testing.assert_close(damping.factor(2), r**2, atol=0.03, rtol=0)
    with pytest.raises(UserError, match=r"lead 3, only at \[1, 2\]"):
        damping.factor(3)


def test_damping_leaves_out_what_is_missing_and_merges() -> None:
    a = noise(6, 1, 2, 2)
    b = a * torch.arange(6.0)[:, None, None, None]
    b[0, 0, 0, 0] = a[1, 0, 0, 1] = torch.nan
    a[:, 0, 1, 1] = torch.nan
    whole, first, second = Damping(), Damping(), Damping()
    for t in range(6):
        for damping in (whole, first if t < 3 else second):
            damping.update(1, a[t], b[t])
    first.merge(second)
    torch.testing.assert_close(first.factor(1), whole.factor(1))
    expected = (a * b).nansum(0) / (a.square() * ~b.isnan()).nansum(0)
    torch.testing.assert_close(whole.factor(1)[0, 0], expected[0, 0])
    assert whole.factor(1)[0, 1, 1] == 0


def test_baselines_are_exact_where_their_assumption_holds() -> None:
    """A fixed anomaly on a season: persistence misses the season, its anomaly does not."""
    climatology = Climatology("month")
    climatology.update(MONTHS, season_at(MONTHS))
    init, valid = np.datetime64("2001-01-01"), np.datetime64("2001-07-01")
    states = season_at(np.array([init, valid])) + 1.5
    half = torch.full_like(states[0], 0.5)
    made = baseline_forecasts(states[0], init, valid, climatology, half)
    torch.testing.assert_close(made["anomaly persistence"], states[1])
    torch.testing.assert_close(made["damped anomaly persistence"], states[1] - 0.75)
    torch.testing.assert_close(made["climatology"], states[1] - 1.5)
    torch.testing.assert_close(made["persistence"], states[0])
    assert list(baseline_forecasts(states[0], init, valid, climatology)) == list(made)[:3]


def test_members_of_the_climatological_ensemble_are_the_same_date_of_each_year() -> None:
    ensemble = SameSeason(DAYS[:-10], "day")  # the last year lacks its last days
    assert ensemble.num_members == 9
    found = DAYS[ensemble.indices(np.datetime64("2010-12-30"))].astype("datetime64[D]").astype(str)
    assert found.tolist() == [f"{year}-12-30" for year in range(1990, 1999)]
    found = DAYS[ensemble.indices(np.datetime64("2010-06-01"))].astype("datetime64[D]").astype(str)
    assert found.tolist() == [f"{year}-06-01" for year in range(1991, 2000)]
    leap = ensemble.indices(np.datetime64("2012-02-29"))
    assert leap.tolist() == ensemble.indices(np.datetime64("2012-02-28")).tolist()


def test_members_do_not_depend_on_the_order_of_training_times() -> None:
    ordered = SameSeason(MONTHS, "month").indices(np.datetime64("2010-04-01"))
    turned = SameSeason(MONTHS[::-1], "month").indices(np.datetime64("2010-04-01"))
    assert MONTHS[ordered].tolist() == MONTHS[::-1][turned].tolist()


def test_training_times_without_years_as_members_are_refused() -> None:
    with pytest.raises(UserError, match="Take the season `day`"):
        SameSeason(DAYS, "month")
    with pytest.raises(UserError, match="has 1 training years"):
        SameSeason(MONTHS[:12], "month")
    with pytest.raises(UserError, match="1 January, 03:00"):
        SameSeason(SIX_HOURS, "hour").indices(np.datetime64("2001-01-01T03:00"))


def test_a_series_has_the_season_of_its_step() -> None:
    assert [natural_season(times) for times in (MONTHS, DAYS, SIX_HOURS)] == [
        "month",
        "day",
        "hour",
    ]


def test_a_date_has_the_same_slot_in_every_year() -> None:
    times = np.array(["1999-03-01T06:30", "2000-03-01T06:30", "1999-12-31", "2000-12-31"])
    assert slots(times, "day").tolist() == [60, 60, 365, 365]
    names = [slot_name(int(slots(times[0], by)), by) for by in ("month", "day", "hour")]
    assert names == ["March", "1 March", "1 March, 06:30"]
