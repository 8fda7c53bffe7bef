"""Fields of the atmosphere or the ocean as samples: states alone, or forecasts of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator

from rawdiff.data.dataset import DataInfo, Dataset, Sample
from rawdiff.errors import UserError
from rawdiff.settings import Settings
from rawdiff_weather.area import area_weights
from rawdiff_weather.axes import Ints
from rawdiff_weather.baselines import Climatology
from rawdiff_weather.framing import Fields, Forcing, Framing, Target
from rawdiff_weather.reading import Reader
from rawdiff_weather.seasons import natural_season
from rawdiff_weather.selection import Plan, Region, select
from rawdiff_weather.source import open_source

AT_ONCE = 2**28  # bytes of states, while a climatology is computed


class ClimatologySettings(Settings):
    """The mean of each season (month; day; day and hour: by the step of the data) over `time`.

    `time` is [first, last] of the training data, and stays so for held-out data.
    """

    time: tuple[str, str]


class WeatherDataset(Dataset):
    """Fields [C, latitude, longitude] of zarr stores or NetCDF files, in the units of the files.

    `path` is one or several stores (any fsspec URL), files or patterns of them. `variables` at
    `levels` (hPa; or `temperature@850`) are predicted, in this order. `time` is [first, last], both
    included, at every `step` (`6h`, `1 month`; default: that of the data) inside `region` [south,
    north, west, east]. Of several members `member` or each is taken.

    `past` states, one step apart, are known, the last of them `lead` steps before the one that is
    predicted: as a `state`, or as its change since then, a `tendency`. With none, states are
    generated from nothing. `static` fields and `forcings` of the predicted time are known, too.
    States are anomalies from `climatology`, if that is given. Errors weigh as the area of their
    grid cells, unless `area_weights: false`.
    """

    path: str | tuple[str, ...]
    variables: tuple[str, ...] = Field(min_length=1)
    levels: tuple[float, ...] | None = Field(default=None, min_length=1)
    time: tuple[str, str] | None = None
    step: str | None = None
    region: tuple[float, float, float, float] | None = None
    member: int | None = None
    past: int = Field(default=0, ge=0)
    lead: int = Field(default=1, ge=1)
    target: Target = "state"
    climatology: ClimatologySettings | None = None
    static: tuple[str, ...] = ()
    forcings: tuple[Forcing, ...] = ()
    area_weights: bool = True

    @model_validator(mode="after")
    def _agree(self) -> WeatherDataset:
        if self.target == "tendency" and not self.past:
            raise ValueError(
                "`target: tendency` is a change since the last known state: set `past`"
            )
        return self

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
        return Reader(self.plan(self.time))

    @cached_property
    def framing(self) -> Framing:
        plan = self.reader.plan
        static = self.reader.read_static()
        return Framing(
            plan.latitude,
            plan.longitude,
            self.past,
            self.target,
            self.forcings,
            static,
            self._climatology(),
        )

    def _climatology(self) -> Climatology | None:
        if self.climatology is None:
            return None
        reader = Reader(self.plan(self.climatology.time))
        times = reader.plan.times.datetime64
        found = Climatology(natural_season(times))
        size = max(1, AT_ONCE // (4 * int(np.prod(reader.plan.shape))))
        for start in range(0, len(times), size):
            part = range(start, min(start + size, len(times)))
            found.update(times[part.start : part.stop], torch.from_numpy(reader.read(part)))
        return found

    @cached_property
    def windows(self) -> Ints:
        """[n, 1 + past] indices into the plan's times: the predicted one, then the known ones.

        Windows with a gap are left out. UserError if none is left.
        """
        times = self.reader.plan.times
        before = [times.later(-self.lead - k) for k in range(self.past)]
        windows = np.stack([np.arange(len(times)), *before], axis=1)
        whole = windows[(windows >= 0).all(axis=1)]
        if not len(whole):
            raise UserError(
                f"There is no window of {self.past} states and one {self.lead} steps later among "
                f"the {len(times)} times from {times.text(0)} to {times.text(len(times) - 1)}. "
                "Give a longer `time`, a smaller `past` or `lead`, or another `step`."
            )
        return whole

    @property
    def num_members(self) -> int:
        return max(len(self.reader.plan.members), 1)

    @property
    def info(self) -> DataInfo:
        plan = self.reader.plan
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
        )

    def __len__(self) -> int:
        return len(self.windows) * self.num_members

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        """Fields that several samples share are read once."""
        window, member = np.divmod(np.asarray(indices, dtype=np.int64), self.num_members)
        places = self.windows[window]  # [B, 1 + past]
        wanted = np.stack([places, np.broadcast_to(member[:, None], places.shape)], axis=-1)
        pairs, inverse = np.unique(wanted.reshape(-1, 2), axis=0, return_inverse=True)
        times = self.reader.plan.times
        states = self.reader.read(pairs[:, 0], pairs[:, 1])
        anomalies = self.framing.anomalies(states, times.take(pairs[:, 0]))
        both = anomalies[inverse.reshape(places.shape)]  # [B, 1 + past, C, H, W]
        x, past = both[:, 0], both[:, 1:]
        valid = times.take(places[:, 0])
        return self._samples(self.framing.x(x, past), past, valid)

    def _samples(self, x: Fields, past: Fields, valid: Any) -> list[Sample]:
        context, scalars = self.framing.context(past, valid), self.framing.scalars(valid)
        return [
            Sample(
                x=x[i],
                context=None if context is None else context[i],
                scalars=None if scalars is None else scalars[i],
                weight=self._area,
            )
            for i in range(len(x))
        ]

    @cached_property
    def _area(self) -> Fields | None:
        if not self.area_weights:
            return None
        plan = self.reader.plan
        weights = area_weights(plan.latitude.tolist(), len(plan.longitude))
        return weights.float().numpy()
