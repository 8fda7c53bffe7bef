"""Forecasts in a store: who starts where, what is written under which name, what is missing."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.series import Question, Request, Rollout
from rawdiff_weather.axes import Fields, Ints
from rawdiff_weather.framing import Framing
from rawdiff_weather.output import Content, Coordinate, FieldStore
from rawdiff_weather.reading import Reader
from rawdiff_weather.rollout import Course, Stage, States, stages
from rawdiff_weather.selection import Plan
from rawdiff_weather.times import EPOCH, HOUR, Step, TimeAxis


@dataclass(frozen=True, eq=False)
class Forecasts:
    """`reader` has all times of the files, of which inits are some."""

    reader: Reader
    framing: Framing
    request: Request
    path: Path

    @cached_property
    def inits(self) -> Ints:
        """Places [I] among the reader's times."""
        return find_inits(self.reader.plan.times, self.request.inits)

    @cached_property
    def stages(self) -> list[Stage]:
        framing = self.framing
        num_steps, num_times = self.request.num_steps, framing.shape.num_times
        return stages(framing.leads, framing.num_past, num_steps, num_times)

    def create(self, title: str, origin: dict[str, Any]) -> None:
        """UserError if there is nothing to start from, or the store holds other forecasts."""
        background = self.framing.background
        for init in self.inits.tolist():
            self._known(init, range(self.request.num_members))
            if background is not None:
                start = self._times.take(np.array([init]))
                for step in self._steps:
                    background.require(start.moved(step), start)
        request: dict[str, Any] = {"init": [self._times.text(i) for i in self.inits.tolist()]}
        request |= {"num_steps": max(self._steps), "num_members": self.request.num_members}
        self.store.create(title, {**origin, **request})

    def rollouts(self, batch_size: int) -> list[Rollout]:
        """What is missing, in parts of at most `batch_size` members of one init."""
        found = []
        for number in range(len(self.inits)):
            for start in range(0, self.request.num_members, batch_size):
                members = range(start, min(start + batch_size, self.request.num_members))
                num_done = self._num_done(number, members)
                if num_done < len(self.stages):
                    questions = self._questions(number, members, num_done)
                    found.append(Rollout(len(self.stages) - num_done, questions))
        return found

    def _num_done(self, number: int, members: range) -> int:
        for done, stage in enumerate(self.stages):
            places = [(number, m, self._place(step)) for m in members for step in stage.steps]
            if not all(self.store.has(place) for place in places):
                return done
        return len(self.stages)

    def _questions(
        self, number: int, members: range, num_done: int
    ) -> Generator[Question, Tensor, None]:
        init = int(self.inits[number])
        todo, part = self.stages[num_done:], slice(members.start, members.stop)
        states: States = dict(self._known(init, members))
        drawn = {step for stage in self.stages[:num_done] for step in stage.steps}
        for base in {stage.base for stage in todo}:
            for step in range(base, base - self.framing.num_past, -1):
                if step in drawn:
                    states[step] = self.store.read((number, part, self._place(step)))

        def write(step: int, state: Fields) -> None:
            self.store.write((number, part, self._place(step)), state)

        course = Course(self.framing, self._times.take(np.array([init])), members)
        yield from course.questions(todo, states, write)

    def _known(self, init: int, members: range) -> dict[int, Fields]:
        return known_states(self.reader, init, self.framing.num_past, members)

    @property
    def _times(self) -> TimeAxis:
        return self.reader.plan.times

    def _place(self, step: int) -> int:
        """Along the dim of leads."""
        return self._steps.index(step)

    @cached_property
    def _steps(self) -> list[int]:
        return sorted({step for stage in self.stages for step in stage.steps})

    @cached_property
    def store(self) -> FieldStore:
        plan = self.reader.plan
        inits = plan.times.take(self.inits)
        valid = np.stack([inits.moved(step).seconds for step in self._steps], axis=1)
        lead_name, lead = lead_coordinate(inits, self._steps)
        members = np.arange(self.request.num_members)
        content = Content(
            leading={
                "time": time_coordinate(inits, "forecast_reference_time"),
                "number": Coordinate(members, {"standard_name": "realization", "units": "1"}),
                lead_name: lead,
            },
            channels=tuple(channel.name for channel in plan.channels),
            latitude=plan.latitude,
            longitude=plan.longitude,
            attributes={name: v.attributes for name, v in plan.variables.items()},
            beside={
                "valid_time": Coordinate(
                    valid,
                    {"standard_name": "time", "units": EPOCH, "calendar": inits.calendar},
                    ("time", lead_name),
                )
            },
        )
        return FieldStore(self.path, content)


def find_inits(times: TimeAxis, texts: Sequence[str]) -> Ints:
    """Places of inits: dates such as `2020-01-01T00`, or `FIRST/LAST/STEP` for many.

    UserError for one that is not among the times.
    """
    found: list[int] = []
    for text in texts:
        parts = text.split("/")
        if len(parts) > 3:
            raise UserError(f"`{text}` is no init. Write 2020-01-01T00 or FIRST/LAST/STEP.")
        if len(parts) == 1:
            found.append(times.find(text))
        else:
            found += times.select(*parts).tolist()
    return np.array(sorted(set(found)), dtype=np.int64)


def known_states(
    reader: Reader, init: int, num_past: int, members: Sequence[int]
) -> dict[int, Fields]:
    """By step 0, -1, …: states [M, C, H, W] from the files.

    Data with members give them in turn: member k starts from that of number k. UserError where a
    state is not there, holds nothing, or is infinite.
    """
    times = reader.plan.times
    where = {-k: int(times.later(-k)[init]) for k in range(num_past)}
    if missing := [step for step, place in where.items() if place < 0]:
        lacking = times.take(np.array([init])).moved(missing[0]).text(0)
        raise UserError(
            f"A forecast from {times.text(init)} must know {num_past} states one step "
            f"({times.step}) apart, but there is none at {lacking}. Choose an init without a gap "
            "before it."
        )
    chosen = np.mod(members, max(len(reader.plan.members), 1))
    there, inverse = np.unique(chosen, return_inverse=True)
    found = {}
    for step, place in where.items():
        states = reader.read(np.full(len(there), place), there)
        _require_sound(states, reader.plan, place)
        found[step] = states[inverse]
    return found


def _require_sound(states: Fields, plan: Plan, place: int) -> None:
    """UserError for a state [m, C, H, W] that no forecast can start from."""
    for c, channel in enumerate(plan.channels):
        fields = states[:, c]
        nothing = np.isnan(fields).all()
        if nothing or np.isinf(fields).any():
            what = "NaN everywhere" if nothing else "infinite somewhere"
            raise UserError(
                f"`{channel.name}` at {plan.times.text(place)} is {what}, so no forecast can start "
                "from it. Choose another init."
            )


def time_coordinate(times: TimeAxis, standard_name: str) -> Coordinate:
    attributes = {"standard_name": standard_name, "units": EPOCH, "calendar": times.calendar}
    return Coordinate(times.seconds, attributes)


def lead_coordinate(times: TimeAxis, steps: Sequence[int]) -> tuple[str, Coordinate]:
    """The name and values of the dim of leads: hours, or months where steps are months."""
    unit = times.step or Step(HOUR)  # a single time goes no steps on
    counts = np.array(steps) * unit.count
    if unit.unit == "months":
        return "lead", Coordinate(counts, {"long_name": "months after time"})
    name, size = ("hours", HOUR) if (counts % HOUR == 0).all() else ("seconds", 1)
    attributes = {"standard_name": "forecast_period", "units": name, "dtype": "timedelta64[ns]"}
    return "prediction_timedelta", Coordinate(counts // size, attributes)
