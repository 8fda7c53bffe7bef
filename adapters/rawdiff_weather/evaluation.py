"""Forecasts of held-out times against what came, beside forecasts that need no model."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.conditions import spread
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Progress, SeriesEvaluator
from rawdiff.evaluate.report import GENERATED
from rawdiff.series import Draw, Rollout, Series
from rawdiff_weather.baselines import Climatology, Damping, baseline_forecasts
from rawdiff_weather.dataset import AT_ONCE, WeatherDataset
from rawdiff_weather.forecast import find_inits, known_states
from rawdiff_weather.framing import Fields
from rawdiff_weather.page import Example, Tables, channel_name, write_page
from rawdiff_weather.reading import Reader
from rawdiff_weather.rollout import Course, Stage, stages
from rawdiff_weather.scores import ForecastScores, Row
from rawdiff_weather.seasons import SameSeason, natural_season
from rawdiff_weather.times import TimeAxis

HEADLINES = ("rmse", "crps", "spread_skill")
MAX_CHANNELS, MAX_LEADS = 8, 6  # of the table in the terminal; files have all
YEARS = "years of climatology"
"""The column of the ensemble of the same season in each training year."""


class ForecastEvaluator(SeriesEvaluator):
    """Forecasts from held-out states against what came.

    From `num_inits` held-out times spread evenly (or from those in `inits`), `num_members` go
    `num_steps` on. With `climatology`, training states are read for the baselines that need one.
    """

    num_inits: int = Field(default=32, ge=1)
    inits: tuple[str, ...] | None = None
    num_steps: int | None = Field(default=None, ge=1)
    num_members: int = Field(default=16, ge=1)
    climatology: bool = True

    def score(
        self, draw: Draw, held_out: Series, train: Series, folder: Path, progress: Progress
    ) -> tuple[dict[str, dict[str, float]], int]:
        assert isinstance(held_out, WeatherDataset)
        assert isinstance(train, WeatherDataset)
        if not held_out.past:
            raise UserError(
                "`forecast` scores forecasts, but this model generates states from nothing "
                "(`past: 0`). Choose other evaluators: `--metric frechet,spectrum`."
            )
        longest = held_out.leads[-1]
        num_steps = self.num_steps or (longest if len(held_out.leads) > 1 else 10 * longest)
        todo = stages(held_out.leads, held_out.past, num_steps)
        normal = (
            Normal.of(train.reader, [stage.step for stage in todo]) if self.climatology else None
        )
        trial = Trial(held_out, todo, self.num_members, normal)
        inits = trial.choose(self.inits, self.num_inits)
        for number, init in enumerate(inits):
            trial.run(init, draw, keep=number == len(inits) // 2)
            progress(number + 1, len(inits))
        tables = {name: scores.result() for name, scores in trial.scores.items()}
        _write_tables(folder, tables)
        write_page(folder, tables, trial.lead_names, trial.example)
        return headlines(tables, trial.lead_names), len(inits)


@dataclass(frozen=True, eq=False)
class Normal:
    """What is usual in the training years: the mean of each season, its years, what persists."""

    reader: Reader
    climatology: Climatology
    damping: Damping
    years: SameSeason | None

    @staticmethod
    def of(reader: Reader, steps: list[int]) -> Normal | None:
        """Reads all training states twice. None for a calendar that numpy has no dates of."""
        times = reader.plan.times
        try:
            dates = times.datetime64
        except UserError:
            return None
        by = natural_season(dates)
        climatology, damping = Climatology(by), Damping()
        size = max(1, AT_ONCE // (4 * int(np.prod(reader.plan.shape))))
        for start in range(0, len(times), size):
            part = range(start, min(start + size, len(times)))
            climatology.update(dates[part.start : part.stop], torch.from_numpy(reader.read(part)))
        later = {step: times.later(step) for step in steps}
        for start in range(0, len(times), size):
            part = range(start, min(start + size, len(times) - 1))
            anomalies = _anomalies(reader, np.array(part), climatology)
            for step in steps:
                here = [i for i in part if later[step][i] >= 0]
                if here:
                    then = _anomalies(reader, later[step][here], climatology)
                    for i, anomaly in zip(here, then, strict=True):
                        damping.update(step, anomalies[i - part.start], anomaly)
        try:
            years = SameSeason(dates, by)
        except UserError:
            years = None  # fewer than two years
        return Normal(reader, climatology, damping, years)


def _anomalies(reader: Reader, places: Any, climatology: Climatology) -> Tensor:
    dates = reader.plan.times.take(places).datetime64
    states = torch.from_numpy(reader.read(places))
    return torch.stack([x - climatology.at(d) for x, d in zip(states, dates, strict=True)])


@dataclass(eq=False)
class Trial:
    """Forecasts of one dataset from some of its times."""

    data: WeatherDataset
    stages: list[Stage]
    num_members: int
    normal: Normal | None
    scores: dict[str, ForecastScores] = field(default_factory=dict)
    example: Example | None = None

    @property
    def _reader(self) -> Reader:
        return self.data.reader

    @property
    def _times(self) -> TimeAxis:
        return self._reader.plan.times

    @cached_property
    def _later(self) -> dict[int, Any]:
        return {stage.step: self._times.later(stage.step) for stage in self.stages}

    @cached_property
    def lead_names(self) -> dict[int, str]:
        """Such as `3 days`, by step."""
        assert self._times.step is not None
        return {stage.step: self._times.step.times(stage.step) for stage in self.stages}

    def choose(self, texts: tuple[str, ...] | None, num: int) -> list[int]:
        """Places among the held-out times with all that a forecast must know and meet."""
        before = [self._times.later(-k) for k in range(self.data.past)]
        whole = np.all([where >= 0 for where in (*before, *self._later.values())], axis=0)
        if texts is not None:
            found = find_inits(self._times, texts)
            if lacking := [self._times.text(i) for i in found.tolist() if not whole[i]]:
                raise UserError(
                    f"From {lacking[0]} no forecast can be scored: states before it, or what came "
                    f"up to {max(self._later)} steps later, are not in the held-out data. Choose "
                    "other `inits`, or fewer `num_steps`."
                )
            return found.tolist()
        places = np.flatnonzero(whole)
        if not len(places):
            raise UserError(
                f"No held-out time has {self.data.past} states before it and all of "
                f"{max(self._later)} steps after it. Hold out a longer time, or score fewer steps: "
                "`evaluate.evaluators.forecast.num_steps=1`."
            )
        return places[spread(num, len(places))].tolist()

    def run(self, init: int, draw: Draw, *, keep: bool) -> None:
        """All stages from one init; `keep` holds on to the fields for a picture."""
        known = known_states(self._reader, init, self.data.past)
        states = {
            step: np.broadcast_to(state, (self.num_members, *state.shape))
            for step, state in known.items()
        }
        start = self._times.take(np.array([init]))
        if keep:
            plan = self._reader.plan
            text = self._times.text(init)
            self.example = Example(text, plan.channels, plan.latitude, plan.longitude)

        def take(stage: Stage, forecast: Fields) -> None:
            place = self._later[stage.step][[init]]
            truth = torch.from_numpy(self._reader.read(place)[0])
            self._score(stage, init, known[0], torch.from_numpy(forecast), truth)
            if keep and self.example is not None:
                self.example.add(self.lead_names[stage.step], forecast, truth.numpy())

        course = Course(self.data.framing, start, range(self.num_members))
        Rollout(len(self.stages), course.questions(self.stages, states, take)).run(draw)

    def _score(
        self, stage: Stage, init: int, state: Fields, forecast: Tensor, truth: Tensor
    ) -> None:
        normal, step = self.normal, stage.step
        if normal is None:
            self._add(GENERATED, step, forecast, truth, None)
            self._add("persistence", step, torch.from_numpy(state)[None], truth, None)
            return
        then, valid = self._times.datetime64[[init, self._later[step][init]]]
        mean = normal.climatology.at(valid)
        self._add(GENERATED, step, forecast, truth, mean)
        damping = normal.damping.factor(step)
        others = baseline_forecasts(
            torch.from_numpy(state), then, valid, normal.climatology, damping
        )
        for name, one in others.items():
            self._add(name, step, one[None], truth, mean)
        if normal.years is not None:
            years = normal.reader.read(normal.years.indices(valid))
            self._add(YEARS, step, torch.from_numpy(years), truth, mean)

    def _add(
        self, name: str, step: int, forecast: Tensor, truth: Tensor, mean: Tensor | None
    ) -> None:
        if name not in self.scores:
            plan = self._reader.plan
            self.scores[name] = ForecastScores(
                [channel.name for channel in plan.channels],
                plan.latitude.tolist(),
                plan.longitude.tolist(),
                num_members=len(forecast),
            )
        self.scores[name].update(step, forecast, truth, mean)


def headlines(tables: Tables, lead_names: dict[int, str]) -> dict[str, dict[str, float]]:
    """By column, then `rmse/z500/3 days`: of all the Earth, what a terminal can show."""
    return {
        name: {
            f"{row['score']}/{channel_name(row)}/{lead_names[row['lead']]}": row["value"]
            for row in _shown(table["scores"])
        }
        for name, table in tables.items()
    }


def _shown(rows: list[Row]) -> Iterator[Row]:
    leads = sorted({row["lead"] for row in rows})
    leads = [leads[i] for i in spread(MAX_LEADS, len(leads))]
    channels = list(dict.fromkeys(channel_name(row) for row in rows))[:MAX_CHANNELS]
    for score in HEADLINES:
        for row in rows:
            whole = row["region"] == "global" and row["lead"] in leads
            shown = row["score"] == score and whole and channel_name(row) in channels
            if shown and math.isfinite(row["value"]):
                yield row


def _write_tables(folder: Path, tables: Tables) -> None:
    """scores.csv, one row for each score; and all with ranks and spectra as JSON."""
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        keys = ("variable", "level", "lead", "region", "score", "value")
        writer.writerow(("forecast", *keys))
        for name, table in tables.items():
            writer.writerows([name, *(row[key] for key in keys)] for row in table["scores"])
    content = {
        name: {kind: [_without_nan(row) for row in rows] for kind, rows in table.items()}
        for name, table in tables.items()
    }
    (folder / "scores.json").write_text(json.dumps(content, allow_nan=False))


def _without_nan(row: Row) -> Row:
    """NaN, which JSON does not have, as null."""

    def mended(value: Any) -> Any:
        if isinstance(value, list):
            return [mended(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {key: mended(value) for key, value in row.items()}
