"""Times of any calendar, their steps and their gaps."""

from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from rawdiff_weather.selection import select
from rawdiff_weather.source import Source, open_source
from rawdiff_weather.times import EPOCH, Gap, Step, TimeAxis

from rawdiff.errors import UserError


def of_times(path: Path, times: Any, **attributes: Any) -> Source:
    """A source of one field at the given times."""
    values = np.zeros((len(times), 2, 3), np.float32)
    coords = {
        "time": ("time", times, attributes),
        "lat": ("lat", [10.0, 0.0]),
        "lon": ("lon", [0.0, 1.0, 2.0]),
    }
    xr.Dataset({"t": (("time", "lat", "lon"), values)}, coords).to_netcdf(path)
    return open_source(str(path))


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "proleptic_gregorian"])
def test_times_of_any_calendar_are_plain_seconds(tmp_path: Path, calendar: str) -> None:
    dates = xr.date_range("2000-01-16", periods=26, freq="MS", calendar=calendar, use_cftime=True)
    numbers = cftime.date2num(dates.to_numpy(), "days since 1999-01-01", calendar)
    times = of_times(
        tmp_path / "t.nc", numbers, units="days since 1999-01-01", calendar=calendar
    ).times
    assert times.calendar == calendar
    assert [times.text(i)[:10] for i in (0, 1, -1)] == ["2000-02-01", "2000-03-01", "2002-03-01"]
    assert (times.step == Step(1, "months")) == (calendar != "360_day")
    assert times.gaps() == []
    np.testing.assert_array_equal(times.later(12)[:14], range(12, 26))
    assert (times.later(12)[14:] == -1).all()
    parts = times.parts
    for i, date in enumerate(dates):
        found = (parts.year[i], parts.month[i], parts.day[i], parts.day_of_year[i])
        assert found == (date.year, date.month, date.day, date.dayofyr)
    assert times.select("2001", "2001-02").tolist() == [11, 12]
    if calendar == "proleptic_gregorian":
        assert times.datetime64[0] == np.datetime64("2000-02-01")
    else:
        with pytest.raises(UserError, match=f"calendar `{calendar}`"):
            _ = times.datetime64


def test_a_day_that_only_one_calendar_has_is_a_date_there(tmp_path: Path) -> None:
    numbers = np.arange(0, 720)
    times = of_times(
        tmp_path / "t.nc", numbers, units="days since 2000-01-01", calendar="360_day"
    ).times
    assert times.text(times.select("2000-02-30")[0]) == "2000-02-30T00:00"
    with pytest.raises(UserError, match="no date of the calendar `360_day`"):
        times.select("2000-01-31")


def test_hours_as_fractions_of_days_are_whole_hours(tmp_path: Path) -> None:
    times = of_times(tmp_path / "t.nc", np.arange(50) / 24, units="days since 2001-01-01").times
    assert times.step == Step(3600)
    assert times.gaps() == []


@given(kept=st.sets(st.integers(0, 40), min_size=3, max_size=40))
def test_later_is_never_wrong_over_gaps(kept: set[int]) -> None:
    hours = np.array(sorted(kept))
    times = TimeAxis(hours * 3600, step=Step(3600))
    for number in (-2, 0, 1, 3):
        for index, found in enumerate(times.later(number)):
            wanted = hours[index] + number
            assert (hours[found] == wanted) if found >= 0 else (wanted not in kept)
    missing = sum(gap.missing for gap in times.gaps())
    assert missing == hours[-1] - hours[0] + 1 - len(hours)


def test_gaps_are_listed_with_what_is_missing(tmp_path: Path) -> None:
    source = of_times(tmp_path / "t.nc", [0, 6, 12, 30, 36, 40], units="hours since 2000-01-01")
    assert source.times.gaps() == [
        Gap(2, "2000-01-01T12:00", "2000-01-02T06:00", 2),
        Gap(4, "2000-01-02T12:00", "2000-01-02T16:00", 0),
    ]


def test_a_step_is_counted_from_the_first_time(tmp_path: Path) -> None:
    source = of_times(tmp_path / "t.nc", np.arange(48), units="hours since 2000-01-01")
    plan = select(source, start="2000-01-01T03", step="12h")
    assert [plan.times.text(i)[8:13] for i in range(4)] == ["01T03", "01T15", "02T03", "02T15"]
    assert plan.times.step == Step(12 * 3600)
    with pytest.raises(UserError, match="1 hour apart"):
        source.times.select(step="90 min")


def test_a_step_of_months_takes_the_first_time_of_each(tmp_path: Path) -> None:
    daily = of_times(tmp_path / "t.nc", np.arange(200), units="days since 2000-01-15").times
    chosen = daily.take(daily.select(step="2 months"), "2 months")
    assert [chosen.text(i)[:10] for i in range(4)] == [
        "2000-01-15", "2000-03-01", "2000-05-01", "2000-07-01",
    ]  # fmt: skip
    assert chosen.gaps() == []
    with pytest.raises(UserError, match="2 months apart"):
        chosen.select(step="1 day")


@pytest.mark.parametrize(
    ("text", "step"),
    [("6h", Step(21600)), ("1 day", Step(86400)), ("months", Step(1, "months")),
     ("2 years", Step(24, "months")), ("30min", Step(1800)), ("10 seconds", Step(10))],
)  # fmt: skip
def test_steps_are_read_as_they_are_written(text: str, step: Step) -> None:
    assert Step.parse(text) == step
    assert Step.parse(str(step)) == step


def test_seconds_are_those_of_numpy() -> None:
    seconds = np.datetime64("1940-03-01T06", "s").astype(np.int64) + np.arange(4) * 86400 * 9999
    times = TimeAxis.of(seconds)
    for i, date in enumerate(cftime.num2date(seconds, EPOCH, times.calendar)):
        parts = [int(column[i]) for column in times.parts]
        assert parts[:4] == [date.year, date.month, date.day, date.dayofyr]
        assert parts[5] == 6 * 3600
