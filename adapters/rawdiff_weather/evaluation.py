"""Forecasts of held-out times against what came, beside forecasts that need no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.conditions import spread
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Kept, Say, SeriesEvaluator
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
from rawdiff_weather.seasons import Times
from rawdiff_weather.tables import Tables, headlines, write_tables
from rawdiff_weather.times import HOUR, Step, TimeAxis

YEARS = "years of climatology"
"""The column of the ensemble of the same season in each training year."""


class ForecastEvaluator(SeriesEvaluator):
    """Forecasts from held-out states against what came."""

    by_default: ClassVar[bool] = False  # data of weather name it

    num_inits: int = Field(default=32, ge=1)
    """Held-out times that forecasts begin at, spread evenly. [times]"""
    inits: tuple[str, ...] | None = None
    """These times themselves, in place of `num_inits`."""
    num_steps: int | None = Field(default=None, ge=1)
    """Length of a forecast (default: as far as a model with several leads goes from one state, or
    ten times a single lead). [steps]"""
    num_members: int = Field(default=16, ge=1)
    """Members of the ensemble from each time. [members]"""
    climatology: bool = True
    """Reads training states, for the baselines that need them."""

    def score(
        self, draw: Draw, held_out: Series, train: Series, kept: Kept, folder: Path, say: Say
    ) -> tuple[dict[str, dict[str, float]], int]:
        if not isinstance(held_out, WeatherDataset) or not isinstance(train, WeatherDataset):
            raise UserError(
                "`forecast` scores fields of `data: weather`, not another series. Choose the "
                "evaluators of that data by `--metric`."
            )
        if not held_out.is_told_states:
            raise UserError(
                "`forecast` scores forecasts, but this model generates states from nothing "
                "(`past: 0`). Choose other evaluators: `--metric frechet,spectrum`."
            )
        todo = stages(held_out.leads, held_out.past, self.num_steps, held_out.num_times)
        trial = Trial(held_out, todo, self.num_members, train if self.climatology else None, draw)
        inits = trial.choose(self.inits, self.num_inits, say)
        tables = trial.tables(kept(len(inits), lambda number: trial.sums(inits[number])))
        write_tables(folder, tables)
        write_page(folder, tables, trial.lead_names, trial.example(inits[len(inits) // 2]))
        return headlines(tables, trial.lead_names), len(inits)


@dataclass(eq=False)
class Trial:
    """Forecasts of one dataset from some of its times."""

    data: WeatherDataset
    stages: list[Stage]
    num_members: int
    train: WeatherDataset | None
    """Where baselines learn what is usual; None for those that need nothing."""
    draw: Draw

    @property
    def _reader(self) -> Reader:
        return self.data.reader

    @property
    def _times(self) -> TimeAxis:
        return self._reader.plan.times

    @cached_property
    def _later(self) -> dict[int, Any]:
        steps = sorted({step for stage in self.stages for step in stage.steps})
        return {step: self._times.later(step) for step in steps}

    @cached_property
    def normal(self) -> Normal | None:
        return None if self.train is None else Normal.of(self.train.reader, list(self._later))

    @cached_property
    def lead_names(self) -> dict[int, str]:
        """Such as `3 days`, by step."""
        unit = self._times.step or Step(HOUR)  # a single time goes no steps on
        return {step: unit.times(step) for step in self._later}

    def choose(self, texts: tuple[str, ...] | None, num: int, say: Say) -> list[int]:
        """Places among the held-out times with all that a forecast must know and meet."""
        before = [self._times.later(-k) for k in range(self.data.past)]
        whole = np.all([where >= 0 for where in (*before, *self._later.values())], axis=0)
        if (background := self.data.framing.background) is not None:
            for later in self._later.values():
                there = np.flatnonzero(whole)
                valid, init = self._times.take(later[there]), self._times.take(there)
                whole[there] = background.has(valid, init)
        if texts is not None:
            given = find_inits(self._times, texts).tolist()
            if lacking := [self._times.text(i) for i in given if not whole[i]]:
                raise UserError(
                    f"From {lacking[0]} no forecast can be scored: states before it, or what came "
                    f"up to {max(self._later)} steps later, are not in the held-out data. Choose "
                    "other `inits`, or fewer `num_steps`."
                )
            return given
        places = np.flatnonzero(whole)
        if not len(places):
            raise UserError(
                f"No held-out time has {self.data.past} states before it and all of "
                f"{max(self._later)} steps after it. Hold out a longer time, or score fewer steps: "
                "`evaluate.evaluators.forecast.num_steps=1`."
            )
        chosen = places[spread(num, len(places))].tolist()
        found: list[int] = []
        why = ""
        for init in chosen:
            try:
                known_states(self._reader, init, self.data.past, [0])
                found.append(init)
            except UserError as error:
                why = str(error)
        if not found:
            raise UserError(why)
        if why:
            lost = len(chosen) - len(found)
            say(f"{lost} of {len(chosen)} held-out times are left out. Such as: {why}")
        return found

    def sums(self, init: int) -> dict[str, Tensor]:
        """Of all forecasts from one init, named `forecast/lead/sum`."""
        scores: dict[str, ForecastScores] = {}

        def score(step: int, forecast: Tensor, truth: Tensor) -> None:
            for name, one in self._forecasts(step, init, forecast).items():
                own = scores.setdefault(name, self._no_scores(len(one)))
                own.update(step, one, truth, self._usual(init, step))

        self._run(init, score)
        return {
            f"{name}/{lead}/{key}": values
            for name, own in scores.items()
            for lead, sums in own.sums.items()
            for key, values in sums.items()
        }

    def tables(self, sums: Mapping[str, Tensor]) -> Tables:
        """From what `sums` gave of each init, [n, …]."""
        scores: dict[str, ForecastScores] = {}
        for place, values in sums.items():
            name, lead, key = place.split("/")
            num_members = sums[f"{name}/{lead}/ranks"].shape[-1] - 1
            own = scores.setdefault(name, self._no_scores(num_members))
            own.sums.setdefault(int(lead), {})[key] = values.sum(0)
        others = sorted(scores.keys() - {GENERATED})
        return {name: scores[name].result() for name in (GENERATED, *others)}

    def example(self, init: int) -> Example:
        """Maps of the forecast from one init, which is drawn again."""
        plan = self._reader.plan
        found = Example(self._times.text(init), plan.channels, plan.latitude, plan.longitude)

        def add(step: int, forecast: Tensor, truth: Tensor) -> None:
            found.add(self.lead_names[step], forecast.numpy(), truth.numpy())

        self._run(init, add)
        return found

    def _run(self, init: int, use: Callable[[int, Tensor, Tensor], None]) -> None:
        """`use` gets the forecast [M, C, H, W] and what came [C, H, W], step by step."""
        states = known_states(self._reader, init, self.data.past, [0] * self.num_members)

        def take(step: int, forecast: Fields) -> None:
            truth = self._reader.read(self._later[step][[init]])[0]
            use(step, torch.from_numpy(forecast), torch.from_numpy(truth))

        start = self._times.take(np.array([init]))
        course = Course(self.data.framing, start, range(self.num_members))
        Rollout(len(self.stages), course.questions(self.stages, states, take)).run(self.draw)

    def _no_scores(self, num_members: int) -> ForecastScores:
        plan = self._reader.plan
        return ForecastScores(
            [channel.name for channel in plan.channels],
            plan.latitude.tolist(),
            plan.longitude.tolist(),
            num_members=num_members,
        )

    def _dates(self, init: int, step: int) -> Times:
        """The init, and the valid time."""
        dates: Times = self._times.datetime64[[init, self._later[step][init]]]
        return dates

    def _usual(self, init: int, step: int) -> Tensor | None:
        if self.normal is None:
            return None
        return self.normal.climatology.at(self._dates(init, step)[1])

    def _forecasts(self, step: int, init: int, forecast: Tensor) -> dict[str, Tensor]:
        """Members [M, C, H, W] by name: the model's, and those that need no model."""
        found = {GENERATED: forecast}
        state = None
        if self.data.past:
            state = torch.from_numpy(known_states(self._reader, init, 1, [0])[0][0])
        if (normal := self.normal) is not None:
            then, now = self._dates(init, step)
            if state is None:
                found["climatology"] = normal.climatology.at(now)[None]
            else:
                damping = normal.damping.factor(step)
                others = baseline_forecasts(state, then, now, normal.climatology, damping)
                found |= {name: one[None] for name, one in others.items()}
            if normal.years is not None:
                years = normal.reader.read(normal.years.indices(now))
                found[YEARS] = torch.from_numpy(years)
        elif state is not None:
            found["persistence"] = state[None]
        if (background := self._background(init, step)) is not None:
            found["background"] = background[None]
        return found

    def _background(self, init: int, step: int) -> Tensor | None:
        """Where it has all that is predicted."""
        background = self.data.framing.background
        names = [channel.name for channel in self._reader.plan.channels]
        if background is None or not set(names) <= set(background.names):
            return None
        valid = self._later[step][init]
        times = [self._times.take(np.array([place])) for place in (valid, init)]
        return torch.from_numpy(background.at(*times)[0, background.places_of(names)])
