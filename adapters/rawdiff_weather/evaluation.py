"""Forecasts of held-out times against what came, beside forecasts that need no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.conditions import spread
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Progress, SeriesEvaluator
from rawdiff.evaluate.report import GENERATED
from rawdiff.series import Draw, Rollout, Series
from rawdiff_weather.axes import Fields
from rawdiff_weather.baselines import baseline_forecasts
from rawdiff_weather.dataset import WeatherDataset
from rawdiff_weather.forecast import find_inits, known_states
from rawdiff_weather.normal import Normal
from rawdiff_weather.page import Example, write_page
from rawdiff_weather.reading import Reader
from rawdiff_weather.rollout import Course, Stage, stages
from rawdiff_weather.scores import ForecastScores
from rawdiff_weather.tables import headlines, write_tables
from rawdiff_weather.times import TimeAxis

YEARS = "years of climatology"
"""The column of the ensemble of the same season in each training year."""


class ForecastEvaluator(SeriesEvaluator):
    """Forecasts from held-out states against what came.

    From `num_inits` held-out times spread evenly (or from those in `inits`), `num_members` go
    `num_steps` on. With `climatology`, training states are read for the baselines that need one.
    """

    by_default: ClassVar[bool] = False  # data of weather name it

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
        if not held_out.is_told_states:
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
        write_tables(folder, tables)
        write_page(folder, tables, trial.lead_names, trial.example)
        return headlines(tables, trial.lead_names), len(inits)


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
        if (background := self.data.framing.background) is not None:
            for later in self._later.values():
                there = np.flatnonzero(whole)
                valid, init = self._times.take(later[there]), self._times.take(there)
                whole[there] = background.has(valid, init)
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
            self._score(stage, init, known.get(0), torch.from_numpy(forecast), truth)
            if keep and self.example is not None:
                self.example.add(self.lead_names[stage.step], forecast, truth.numpy())

        course = Course(self.data.framing, start, range(self.num_members))
        Rollout(len(self.stages), course.questions(self.stages, states, take)).run(draw)

    def _score(
        self, stage: Stage, init: int, state: Fields | None, forecast: Tensor, truth: Tensor
    ) -> None:
        """The forecast, and what needs no model, from the last known state if there is one."""
        normal, step = self.normal, stage.step
        valid = self._later[step][init]
        others: dict[str, Tensor] = {}
        mean = None
        if normal is not None:
            then, now = self._times.datetime64[[init, valid]]
            mean = normal.climatology.at(now)
            others = {"climatology": mean}
            if state is not None:
                known, damping = torch.from_numpy(state), normal.damping.factor(step)
                others = baseline_forecasts(known, then, now, normal.climatology, damping)
        elif state is not None:
            others = {"persistence": torch.from_numpy(state)}
        if (background := self._background(init, valid)) is not None:
            others["background"] = background
        self._add(GENERATED, step, forecast, truth, mean)
        for name, one in others.items():
            self._add(name, step, one[None], truth, mean)
        if normal is not None and normal.years is not None:
            years = normal.reader.read(normal.years.indices(now))
            self._add(YEARS, step, torch.from_numpy(years), truth, mean)

    def _background(self, init: int, valid: int) -> Tensor | None:
        """Where it has all that is predicted."""
        background = self.data.framing.background
        names = [channel.name for channel in self._reader.plan.channels]
        if background is None or not set(names) <= set(background.names):
            return None
        times = [self._times.take(np.array([place])) for place in (valid, init)]
        return torch.from_numpy(background.at(*times)[0, background.places_of(names)])

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
