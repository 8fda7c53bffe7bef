"""Fields of the atmosphere or the ocean as samples: states alone, or forecasts of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from rawdiff.data.dataset import DataInfo, Sample
from rawdiff.errors import UserError
from rawdiff.series import Request, Rollout, Series
from rawdiff.settings import Settings
from rawdiff_weather.axes import Fields, Ints
from rawdiff_weather.background import Background, BackgroundSettings
from rawdiff_weather.baselines import Climatology
from rawdiff_weather.expected import expected_info, require_shape
from rawdiff_weather.forecast import Forecasts
from rawdiff_weather.framing import Forcing, Framing, Target
from rawdiff_weather.normal import climatology_of
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Plan, Region, select
from rawdiff_weather.source import open_source
from rawdiff_weather.weighting import LevelWeights, weights

NAMES = ("standard_name", "long_name")  # what samples carry of the attributes of a variable


class Windows(NamedTuple):
    """Of each sample without its member: `lead` [n] in steps, and indices into the plan's times.

    `places` [n, 1 + past] are the predicted time, then the known ones, the newest first.
    """

    lead: Ints
    places: Ints


class ClimatologySettings(Settings):
    """The mean of each season (month; day; day and hour: by the step of the data) over `time`.

    `time` is [first, last] of the training data, and stays so for held-out data.
    """

    time: tuple[str, str]


class WeatherDataset(Series):
    """Fields [C, latitude, longitude] of zarr stores or NetCDF files, in the units of the files.

    `path` is one or several stores (any fsspec URL), files or patterns of them. `variables` at
    `levels` (hPa; or `temperature@850`) are predicted, in this order. `time` is [first, last], both
    included, at every `step` (`6h`, `1 month`; default: that of the data) inside `region` [south,
    north, west, east]. Of several members `member` or each is taken. `shape`, [channels, latitudes,
    longitudes], is compared with the files, and lets a recipe be checked without them.

    `past` states, one step apart, are known, the last of them `lead` steps before the one that is
    predicted: as a `state`, as its change since then, a `tendency`, or as its difference from the
    `background`, a `residual`. With several leads one model learns all of them, and is told which.
    With no past, states are generated from nothing but the background: fields of another source
    at the predicted time, such as coarse ones or a forecast, brought to this grid.
    `static` fields and `forcings` of the predicted time are known, too. States are anomalies from
    `climatology`, if that is given.

    Errors weigh as the area of their grid cells, unless `area_weights: false`; as
    `variable_weights` says (of a channel or of all of a variable; default 1); and with
    `level_weights: pressure` as the pressure of their level, which is the mass of its layer.
    """

    path: str | tuple[str, ...]
    variables: tuple[str, ...] = Field(min_length=1)
    levels: tuple[float, ...] | None = Field(default=None, min_length=1)
    time: tuple[str, str] | None = None
    step: str | None = None
    region: tuple[float, float, float, float] | None = None
    member: int | None = None
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    past: int = Field(default=0, ge=0)
    lead: PositiveInt | tuple[PositiveInt, ...] = 1
    target: Target = "state"
    background: BackgroundSettings | None = None
    climatology: ClimatologySettings | None = None
    static: tuple[str, ...] = ()
    forcings: tuple[Forcing, ...] = ()
    area_weights: bool = True
    variable_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    level_weights: LevelWeights = "equal"

    @model_validator(mode="after")
    def _agree(self) -> WeatherDataset:
        if self.target == "tendency" and not self.past:
            raise ValueError(
                "`target: tendency` is a change since the last known state: set `past`"
            )
        if self.target == "residual" and self.background is None:
            raise ValueError("`target: residual` is a difference: set `background`")
        if not self.leads or sorted(set(self.leads)) != list(self.leads):
            raise ValueError(f"`lead: {list(self.leads)}` must be rising numbers of steps")
        if len(self.leads) > 1 and not self.past:
            raise ValueError("several leads are times since the last known state: set `past`")
        return self

    @property
    def leads(self) -> tuple[int, ...]:
        return (self.lead,) if isinstance(self.lead, int) else self.lead

    def plan(self, time: tuple[str, str] | None) -> Plan:
        """Of the fields in a range of times. UserError for what the files do not have."""
        return select(
            open_source(self.path),
            self.variables,
            self.levels,
            static=self.static,
            start=time and time[0],
            end=time and time[1],
            step=self.step,
            region=self.region and Region(*self.region),
            member=self.member,
        )

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
            plan.channels,
        )

    def _climatology(self) -> Climatology | None:
        if self.climatology is None:
            return None
        return climatology_of(Reader(self.plan(self.climatology.time)))

    @cached_property
    def windows(self) -> Windows:
        """One lead after another; those with a gap are left out. UserError if none is left."""
        times = self.reader.plan.times
        parts = []
        for lead in self.leads:
            before = [times.later(-lead - k) for k in range(self.past)]
            places = np.stack([np.arange(len(times)), *before], axis=1)
            places = places[(places >= 0).all(axis=1)]
            if (background := self.framing.background) is not None:
                valid, init = times.take(places[:, 0]), times.take(places[:, min(1, self.past)])
                places = places[background.has(valid, init)]
            parts.append(Windows(np.full(len(places), lead), places))
        whole = Windows(*map(np.concatenate, zip(*parts, strict=True)))
        if not len(whole.lead):
            raise UserError(
                f"There is no window of {self.past} states and one {self.leads[0]} steps later "
                f"among the {len(times)} times from {times.text(0)} to "
                f"{times.text(len(times) - 1)}{' with a background' if self.background else ''}. "
                "Give a longer `time`, a smaller `past` or `lead`, or another `step`."
            )
        return whole

    @cached_property
    def whole(self) -> WeatherDataset:
        """The same at all times of the files."""
        return type(self)(**self.model_dump(exclude={"time"}))

    def begin_forecasts(self, request: Request, file: Path, origin: dict[str, Any]) -> None:
        self._forecasts(request, file).create(f"Forecasts of {', '.join(self.variables)}", origin)

    def forecasts(self, request: Request, file: Path, batch_size: int) -> Sequence[Rollout]:
        return self._forecasts(request, file).rollouts(batch_size)

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
            return expected_info(
                self.shape,
                num_past=self.past,
                leads=self.leads,
                forcings=self.forcings,
                static=self.static,
                num_background=self._num_background(),
                region=self.region and Region(*self.region),
            )
        return DataInfo(
            shape=plan.shape,
            channels=tuple(channel.name for channel in plan.channels),
            units=tuple(channel.units for channel in plan.channels),
            coordinates={
                "latitude": tuple(plan.latitude.tolist()),
                "longitude": tuple(np.unwrap(plan.longitude, period=360).tolist()),
            },
            scalar_names=self.framing.scalar_names,
            num_context_channels=self.framing.num_context_channels(len(plan.channels)),
            writer="fields",
            evaluators=("forecast",) if self.is_told_states else (),
            attributes={
                name: {
                    key: str(variable.attributes[key])
                    for key in NAMES
                    if key in variable.attributes
                }
                for name, variable in plan.variables.items()
            },
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
        """Fields that several samples share are read once."""
        window, member = np.divmod(np.asarray(indices, dtype=np.int64), self.num_members)
        lead, places = self.windows.lead[window], self.windows.places[window]
        wanted = np.stack([places, np.broadcast_to(member[:, None], places.shape)], axis=-1)
        pairs, inverse = np.unique(wanted.reshape(-1, 2), axis=0, return_inverse=True)
        times = self.reader.plan.times
        states = self.reader.read(pairs[:, 0], pairs[:, 1])
        anomalies = self.framing.anomalies(states, times.take(pairs[:, 0]))
        both = anomalies[inverse.reshape(places.shape)]  # [B, 1 + past, C, H, W]
        x, past = both[:, 0], both[:, 1:]
        valid, init = times.take(places[:, 0]), times.take(places[:, min(1, self.past)])
        known = self.framing.known(past, valid, init)
        context, scalars = self.framing.context(known), self.framing.scalars(valid, lead)
        x = self.framing.x(x, known)
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
        return weights(
            self.reader.plan,
            by_area=self.area_weights,
            of_variables=self.variable_weights,
            of_levels=self.level_weights,
        )
