"""How often `checkpoint.every_steps: auto` saves."""

import math

import pytest

from rawdiff.parallel.processes import ALONE
from rawdiff.recipe import CheckpointSettings
from rawdiff.saved import interval
from rawdiff.saved.interval import Interval, seconds_between


@pytest.mark.parametrize(("stall", "mean_hours"), [(1.0, 24.0), (0.1, 6.0), (20.0, 24.0)])
def test_no_other_interval_loses_less_time(stall, mean_hours) -> None:
    between = seconds_between(stall, mean_hours)

    def lost(seconds: float) -> float:
        """Of each second, what saves stall and failures take away again."""
        return stall / seconds + seconds / 2 / (3600 * mean_hours)

    assert between == pytest.approx(math.sqrt(2 * stall * 3600 * mean_hours))
    assert all(lost(between) < lost(between * factor) for factor in (0.5, 0.9, 1.1, 2.0))


def test_it_is_never_shorter_than_a_minute_nor_longer_than_an_hour() -> None:
    assert seconds_between(1e-4, 1.0) == 60
    assert seconds_between(600.0, 1000.0) == 3600


class Run:
    """Steps of two seconds each, by a clock of its own."""

    def __init__(self, monkeypatch, **settings: object) -> None:
        self.now, self.said = 1000.0, []
        monkeypatch.setattr(interval.time, "perf_counter", lambda: self.now)
        chosen = CheckpointSettings(every_steps="auto", mean_hours_between_failures=1, **settings)
        self.interval = Interval(chosen, ALONE, self.said.append)

    def saves(self, steps: range, stall: float) -> list[int]:
        saved = []
        for step in steps:
            self.now += 2
            if self.interval.due(step):
                self.now += stall
                self.interval.plan(step, stall)
                saved.append(step)
        return saved


def test_the_first_save_measures_what_the_others_cost(monkeypatch) -> None:
    run = Run(monkeypatch)
    # sqrt(2 * 2 s * 3600 s) = 120 s: 60 steps
    assert run.saves(range(1, 200), stall=2.0) == [10, 70, 130, 190]
    assert len(run.said) == 1
    assert "every 60 steps, about 2.0 minutes" in run.said[0]
    # four times the stall, twice the interval, from the next save on
    assert run.saves(range(200, 500), stall=8.0) == [250, 370, 490]
    assert "every 120 steps" in run.said[1]


def test_a_save_that_is_kept_for_good_comes_at_its_step(monkeypatch) -> None:
    run = Run(monkeypatch, keep_every_steps=7)
    assert run.saves(range(1, 90), stall=2.0) == [7, *range(14, 90, 7)]


def test_a_run_that_goes_on_measures_anew(monkeypatch) -> None:
    assert Run(monkeypatch).saves(range(501, 600), stall=2.0) == [510, 570]
