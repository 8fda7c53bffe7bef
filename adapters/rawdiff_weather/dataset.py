"""Fields of the atmosphere or the ocean as samples: states alone, or forecasts of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PrivateAttr

from rawdiff.data.dataset import DataInfo, Dataset, Finding, Sample
from rawdiff.data.packed import packed_folder
from rawdiff.errors import UserError, WrongDataError
from rawdiff.series import Request, Rollout
from rawdiff_weather.axes import Fields
from rawdiff_weather.background import Background
from rawdiff_weather.baselines import Climatology
from rawdiff_weather.expected import expected_info, require_shape
from rawdiff_weather.forecast import Forecasts
from rawdiff_weather.framing import Framing
from rawdiff_weather.inspection import findings
from rawdiff_weather.normal import climatology_of
from rawdiff_weather.prepare import pack_states, require_same_states
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Plan, Region, select
from rawdiff_weather.settings import WeatherSettings
from rawdiff_weather.shape import SampleShape
from rawdiff_weather.source import Source, open_source
from rawdiff_weather.states import packed_source, read_index
from rawdiff_weather.times import TimeAxis
from rawdiff_weather.weighting import weights
from rawdiff_weather.windows import Windows, find_windows

NAMES = ("standard_name", "long_name")  # what samples carry of the attributes of a variable
STORED_BY = ("path", "variables", "levels", "static", "step", "region", "member")
"""The settings that say which fields are read; others only frame them."""


class WeatherDataset(WeatherSettings):
    """Fields [C, latitude, longitude] of zarr stores or NetCDF files, in the units of the files.

    Levels are channels. With past states a sample is a forecast; with none, states are generated
    from nothing but the background. Errors weigh as all weights multiplied.
    """

    _copy: Path | None = PrivateAttr(default=None)

    def plan(self, time: tuple[str, str] | None) -> Plan:
        """Of the fields in a range of times. WrongDataError for what the files do not have."""
        source = self.source
        try:
            return select(
                source,
                self.variables,
                self.levels,
                static=self.static,
                start=time and time[0],
                end=time and time[1],
                step=self.step,
                region=self.region and Region(*self.region),
                member=self.member,
            )
        except UserError as error:
            raise WrongDataError(str(error)) from error

    @cached_property
    def source(self) -> Source:
        return open_source(self.path) if self._copy is None else packed_source(self._copy)

    def pack(self, root: Path, progress: Callable[[int, int], None]) -> Path:
        """States are packed, not samples, which would hold each of them several times."""
        folder = packed_folder(self, root, STORED_BY)
        for time in self._ranges:
            pack_states(Reader(self.plan(time)), json.dumps(time), folder, progress)
        return folder

    def packed(self, root: Path) -> WeatherDataset | None:
        folder = packed_folder(self, root, STORED_BY)
        index = read_index(folder)
        if index is None or not all(json.dumps(time) in index.ranges for time in self._ranges):
            return None
        copy = type(self)(**self.model_dump())
        copy._copy = folder
        try:
            plans = [self.plan(time) for time in self._ranges]
        except UserError:
            return copy  # the source is gone; the copy stands for it
        for plan, packed in zip(plans, map(copy.plan, self._ranges), strict=True):
            require_same_states(folder, packed, plan)
        return copy

    def findings(self) -> Iterator[Finding]:
        yield from findings(self.reader)

    @property
    def _ranges(self) -> tuple[tuple[str, str] | None, ...]:
        """The ranges of time whose states are read."""
        if self.climatology is None or self.climatology.time == self.time:
            return (self.time,)
        return (self.time, self.climatology.time)

    @cached_property
    def reader(self) -> Reader:
        plan = self.plan(self.time)
        require_shape(self.shape, plan.shape)
        return Reader(plan)

    @cached_property
    def framing(self) -> Framing:
        plan = self.reader.plan
        static = self.reader.read_static()
        return Framing(
            plan.latitude,
            plan.longitude,
            self.past,
            self.leads,
            self.target,
            self.forcings,
            static,
            self._climatology(),
            None if self.background is None else Background.of(self.background, plan),
            SampleShape.of(plan.channels, self.num_times, self.level_axis),
        )

    def _climatology(self) -> Climatology | None:
        if self.climatology is None:
            return None
        try:
            return climatology_of(Reader(self.plan(self.climatology.time)))
        except UserError as error:
            raise WrongDataError(
                f"`climatology`: {error} Its years must be in `path`, also where a forecast starts "
                "from newer files: `data.path=[OLD,NEW]`."
            ) from error

    @cached_property
    def windows(self) -> Windows:
        """Of each lead; WrongDataError if there are none."""
        return find_windows(
            self.reader.plan.times, self.leads, self.num_times, self.past, self.framing.background
        )

    @cached_property
    def whole(self) -> WeatherDataset:
        """The same at all times of the files."""
        return type(self)(**self.model_dump(exclude={"time"}))

    def begin_forecasts(self, request: Request, file: Path, origin: dict[str, Any]) -> None:
        self._forecasts(request, file).create(f"Forecasts of {', '.join(self.variables)}", origin)

    def forecasts(self, request: Request, file: Path, batch_size: int) -> Sequence[Rollout]:
        return self._forecasts(request, file).rollouts(batch_size)

    def end_forecasts(self, request: Request, file: Path) -> None:
        self._forecasts(request, file).store.finish()

    def _forecasts(self, request: Request, file: Path) -> Forecasts:
        if not self.is_told_states:
            raise UserError(
                "This model generates states from nothing (`past: 0`), so it starts from no init. "
                "Train with `past: 1` or more for forecasts."
            )
        return Forecasts(self.whole.reader, self.framing, request, file)

    @property
    def is_told_states(self) -> bool:
        """Whether a sample has a time that it belongs to: of states before it, or a background."""
        return self.past > 0 or self.background is not None

    @property
    def forecast_file(self) -> str:
        return "forecast.zarr"

    @property
    def num_members(self) -> int:
        return max(len(self.reader.plan.members), 1)

    @property
    def info(self) -> DataInfo:
        """Without files, as much as `shape` and the other keys say."""
        try:
            plan = self.reader.plan
        except UserError:
            if self.shape is None or self._opens():
                raise
            return self._expected_info(self.shape)
        attributes = {
            name: {
                key: str(variable.attributes[key]) for key in NAMES if key in variable.attributes
            }
            for name, variable in plan.variables.items()
        }
        return self.framing.info(attributes, self._meaning(plan.times))

    def _meaning(self, times: TimeAxis) -> dict[str, str]:
        """What no shape tells, and what yet makes other samples."""
        step = str(times.step or "not known of a single time: give `data.step`")
        found = {"target": self.target, "step": step, "calendar": times.calendar}
        if self.past:
            found["lead"] = ", ".join(map(str, self.leads))
        if self.climatology is not None:
            found["climatology"] = " to ".join(self.climatology.time)
        return found

    def require_unseen(self, held_out: Dataset) -> None:
        assert isinstance(held_out, WeatherDataset)
        if self.path != held_out.path or self.member != held_out.member:
            return
        ours, theirs = self.reader.plan.times, held_out.reader.plan.times
        both = np.intersect1d(ours.seconds, theirs.seconds)
        if len(both):
            first, last = (
                theirs.text(int(np.searchsorted(theirs.seconds, s))) for s in both[[0, -1]]
            )
            raise WrongDataError(
                f"{len(both):,} held-out times, from {first} to {last}, are among those of the "
                "training: scores of them would say nothing. Give `holdout.data.time` that "
                "`data.time` does not reach."
            )
        if self.climatology is None:
            return
        usual = Reader(self.plan(self.climatology.time)).plan.times
        if len(np.intersect1d(usual.seconds, theirs.seconds)):
            raise WrongDataError(
                f"`climatology` over {' to '.join(self.climatology.time)} is of held-out times, "
                "too, so that forecasts of them would know of what came. Give it training years."
            )

    def _expected_info(self, shape: tuple[int, int, int]) -> DataInfo:
        info = expected_info(
            shape,
            num_past=self.past,
            leads=self.leads,
            forcings=self.forcings,
            num_static=len(self.static),
            levels=self.levels,
            level_axis=self.level_axis,
            num_times=self.num_times,
            region=self.region and Region(*self.region),
        )
        return dataclasses.replace(
            info,
            num_context_channels=info.num_context_channels + self._num_background(),
            evaluators=("forecast",) if self.is_told_states else (),
        )

    def _num_background(self) -> int:
        """Channels, without files: those of `shape`, or one of each variable that is named."""
        if self.background is None or self.shape is None:
            return 0
        return len(self.background.variables or range(self.shape[0]))

    def _opens(self) -> bool:
        try:
            open_source(self.path)
        except UserError:
            return False
        return True

    def __len__(self) -> int:
        return len(self.windows.lead) * self.num_members

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        """Stored chunks that several samples share are decoded once."""
        window, member = np.divmod(np.asarray(indices, dtype=np.int64), self.num_members)
        lead, predicted, known = (part[window] for part in self.windows)
        places = np.concatenate([predicted, known], axis=1)  # [B, T + past]
        times = self.reader.plan.times
        states = self.reader.read(places.ravel(), np.repeat(member, places.shape[1]))
        anomalies = self.framing.anomalies(states, times.take(places.ravel()))
        all_of_it = anomalies.reshape(*places.shape, *anomalies.shape[1:])  # [B, T + past, C, H, W]
        ahead, past = all_of_it[:, : self.num_times], all_of_it[:, self.num_times :]
        init = times.take(known[:, 0] if self.past else predicted[:, 0])
        told = self.framing.known(past, times.take(predicted.ravel()), init)
        context, scalars = self.framing.context(told), self.framing.scalars(told.valid, lead)
        x = self.framing.x(ahead, told)
        return [
            Sample(
                x=x[i],
                context=None if context is None else context[i],
                scalars=None if scalars is None else scalars[i],
                weight=self._weight,
            )
            for i in range(len(x))
        ]

    @cached_property
    def _weight(self) -> Fields | None:
        weight = weights(
            self.reader.plan,
            by_area=self.area_weights,
            of_variables=self.variable_weights,
            of_levels=self.level_weights,
        )
        if weight is None or not self.framing.shape.axes:
            return weight
        whole = np.broadcast_to(weight, self.reader.plan.shape)
        return self.framing.shape.sample(whole[None, None])[0]
