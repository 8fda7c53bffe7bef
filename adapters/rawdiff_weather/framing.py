"""What the network is asked: from states of the atmosphere to x and context, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rawdiff.data.dataset import DataInfo
from rawdiff_weather import forcings as sun
from rawdiff_weather.axes import Fields, Floats, Ints
from rawdiff_weather.background import Background
from rawdiff_weather.baselines import Climatology
from rawdiff_weather.shape import SampleShape
from rawdiff_weather.times import TimeAxis

Target = Literal["state", "tendency", "residual"]
Forcing = Literal["season", "time_of_day", "position", "insolation", "daily_insolation"]

CHANNELS: dict[Forcing, tuple[str, ...]] = {
    "season": (),  # the same everywhere: scalars
    "time_of_day": ("sine of the day", "cosine of the day"),
    "position": ("x on the sphere", "y on the sphere", "z on the sphere"),
    "insolation": ("insolation",),
    "daily_insolation": ("daily insolation",),
}
SEASON = ("sine of the year", "cosine of the year")
LEAD = "steps ahead"


class Known(NamedTuple):
    """Past anomalies [B, K, C, H, W], the newest first, and the valid times [B * T], T for each.

    `background` is [B, T, C', H, W], if there is one.
    """

    past: Fields
    valid: TimeAxis
    background: Fields | None


@dataclass(frozen=True, eq=False)
class Framing:
    """Of one data set. Each of B samples has T predicted states [C, H, W], as its `shape` says.

    With a climatology, states are taken as anomalies from it wherever the network sees them.
    """

    latitude: Floats
    longitude: Floats
    num_past: int
    leads: tuple[int, ...]
    target: Target
    forcings: tuple[Forcing, ...]
    static: Fields
    climatology: Climatology | None
    background: Background | None
    shape: SampleShape

    def info(
        self, attributes: Mapping[str, Mapping[str, str]], meaning: Mapping[str, str]
    ) -> DataInfo:
        """Of samples; `attributes` of the variables by name, which are those of states."""
        shape = self.shape
        if kind := self._kind:
            attributes = {
                name: {"long_name": f"{kind} of {found.get('long_name', name)}"}
                for name, found in attributes.items()
            }
        return DataInfo(
            shape=(
                len(shape.names),
                *map(len, shape.axes.values()),
                len(self.latitude),
                len(self.longitude),
            ),
            channels=shape.names,
            units=shape.units,
            coordinates={
                **shape.axes,
                "latitude": tuple(self.latitude.tolist()),
                "longitude": tuple(np.unwrap(self.longitude, period=360).tolist()),
            },
            periods={"longitude": 360.0},
            scalar_names=self.scalar_names,
            num_context_channels=self.num_context_channels,
            writer="fields",
            evaluators=("forecast",) if self.num_past or self.background else (),
            attributes=attributes,
            meaning=meaning,
        )

    @property
    def _kind(self) -> str:
        """What a sample is of a variable; empty for the state itself."""
        if self.target == "tendency":
            return f"tendency over {self._leads_text}"
        if self.target == "residual":
            return "difference from the background"
        return "" if self.climatology is None else "anomaly"

    @property
    def _leads_text(self) -> str:
        leads = ", ".join(map(str, self.leads))
        return f"{leads} step{'s' if self.leads != (1,) else ''}"

    def anomalies(self, states: Fields, times: TimeAxis) -> Fields:
        """States [N, C, H, W] less their climatology; the states themselves without one."""
        return states if self.climatology is None else states - self._normal(times)

    def states(self, anomalies: Fields, times: TimeAxis) -> Fields:
        """Inverse of `anomalies`."""
        return anomalies if self.climatology is None else anomalies + self._normal(times)

    def _normal(self, times: TimeAxis) -> Fields:
        assert self.climatology is not None
        return torch.stack([self.climatology.at(time) for time in times.datetime64]).numpy()

    def known(self, past: Fields, valid: TimeAxis, init: TimeAxis) -> Known:
        """All that is known of what is predicted at the valid times [B * T] from each init [B]."""
        if self.background is None:
            return Known(past, valid, None)
        T = self.shape.num_times
        fields = self.background.at(valid, init.take(np.repeat(np.arange(len(init)), T)))
        return Known(past, valid, fields.reshape(-1, T, *fields.shape[1:]))

    def x(self, anomalies: Fields, known: Known) -> Fields:
        """The sample [B, V, …, H, W] of anomalies [B, T, C, H, W] at the valid times."""
        if self.target != "state":
            anomalies = anomalies - self._start(known)
        return self.shape.sample(anomalies)

    def prediction(self, x: Fields, known: Known) -> Fields:
        """Inverse of `x`."""
        fields = self.shape.fields(x)
        return fields + self._start(known) if self.target != "state" else fields

    def _start(self, known: Known) -> Fields:
        """What is added to: the last anomaly that is known, or that of the background."""
        if self.target == "tendency":
            return known.past[:, :1]
        assert known.background is not None
        fields = known.background[:, :, self._same_places]
        one_by_one = fields.reshape(-1, *fields.shape[2:])
        return self.anomalies(one_by_one, known.valid).reshape(fields.shape)

    @cached_property
    def _same_places(self) -> list[int]:
        """Of the predicted channels in the background."""
        assert self.background is not None
        return self.background.places_of([channel.name for channel in self.shape.channels])

    @property
    def scalar_names(self) -> tuple[str, ...]:
        season = SEASON if "season" in self.forcings else ()
        return (*season, LEAD) if len(self.leads) > 1 else season

    def scalars(self, valid: TimeAxis, lead: Ints) -> Fields | None:
        """[B, S] of the first valid times, `lead` [B] steps ahead; None if there are none."""
        columns: list[npt.NDArray[Any]] = []
        if "season" in self.forcings:
            columns.append(sun.season(_of_the_year(valid)[:: self.shape.num_times]))
        if len(self.leads) > 1:
            columns.append(lead[:, None])
        return np.concatenate(columns, axis=1, dtype=np.float32) if columns else None

    @property
    def num_context_channels(self) -> int:
        own = sum(len(CHANNELS[name]) for name in self.forcings)
        if self.background is not None:
            has_levels = self._background_has_levels
            own += len(self.shape.names if has_levels else self.background.names)
        return self.num_past * len(self.shape.names) + len(self.static) + own

    def context(self, known: Known) -> Fields | None:
        """[B, C', …, H, W] or None: past anomalies, the background, static fields, forcings."""
        past, valid, background = known
        B, H, W = len(past), len(self.latitude), len(self.longitude)
        parts: list[npt.NDArray[Any]] = [
            self.shape.sample(past.reshape(B, 1, -1, H, W))  # C of each past state together
        ]
        if background is not None:
            whole = self._background_has_levels
            parts.append(self.shape.sample(background) if whole else self.shape.spread(background))
        still = np.broadcast_to(self.static, (B, 1, *self.static.shape))
        parts.append(self.shape.spread(still))
        for name in self.forcings:
            if CHANNELS[name]:
                fields = self._forcing(name, valid).astype(np.float32)
                parts.append(self.shape.spread(fields.reshape(B, -1, *fields.shape[1:])))
        context = np.concatenate(parts, axis=1, dtype=np.float32)
        return context if context.shape[1] else None

    @property
    def _background_has_levels(self) -> bool:
        """Whether its channels are those predicted, so that each has its place along the axis."""
        assert self.background is not None
        return self.background.names == [channel.name for channel in self.shape.channels]

    def _forcing(self, name: Forcing, valid: TimeAxis) -> npt.NDArray[np.float64]:
        year, day = _of_the_year(valid), _of_the_day(valid)
        if name == "time_of_day":
            return sun.time_of_day(day, self.latitude, self.longitude)
        if name == "insolation":
            return sun.insolation(year, day, self.latitude, self.longitude)[:, None]
        if name == "daily_insolation":
            rows = sun.daily_insolation(year, self.latitude)[:, None, :, None]
            return np.broadcast_to(rows, (*rows.shape[:3], len(self.longitude)))
        place = sun.position(self.latitude, self.longitude)
        return np.broadcast_to(place, (len(valid), *place.shape))


def _of_the_year(times: TimeAxis) -> npt.NDArray[np.float64]:
    parts = times.parts
    return (parts.day_of_year - 1 + _of_the_day(times)) / parts.days_in_year


def _of_the_day(times: TimeAxis) -> npt.NDArray[np.float64]:
    return times.parts.second_of_day / 86400
