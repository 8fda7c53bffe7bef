"""What the network is asked: from states of the atmosphere to x and context, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rawdiff_weather import forcings as sun
from rawdiff_weather.axes import Fields, Floats, Ints
from rawdiff_weather.background import Background
from rawdiff_weather.baselines import Climatology
from rawdiff_weather.selection import Channel
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
    """Past anomalies [B, K, C, H, W], valid times [B], background [B, C', H, W] if there is one."""

    past: Fields
    valid: TimeAxis
    background: Fields | None


@dataclass(frozen=True, eq=False)
class Framing:
    """Of one data set. States are [T, C, H, W]; `past` [B, K, C, H, W], the newest first.

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
    background: Background | None = None
    channels: tuple[Channel, ...] = ()

    def anomalies(self, states: Fields, times: TimeAxis) -> Fields:
        """States less their climatology; the states themselves without one."""
        return states if self.climatology is None else states - self._normal(times)

    def states(self, anomalies: Fields, times: TimeAxis) -> Fields:
        """Inverse of `anomalies`."""
        return anomalies if self.climatology is None else anomalies + self._normal(times)

    def _normal(self, times: TimeAxis) -> Fields:
        assert self.climatology is not None
        return torch.stack([self.climatology.at(time) for time in times.datetime64]).numpy()

    def known(self, past: Fields, valid: TimeAxis, init: TimeAxis) -> Known:
        """All that is known of what is predicted at the valid times [B] from each init [B]."""
        background = None if self.background is None else self.background.at(valid, init)
        return Known(past, valid, background)

    def x(self, anomalies: Fields, known: Known) -> Fields:
        """What is predicted of anomalies [B, C, H, W] at the valid times."""
        return anomalies - self._start(known) if self.target != "state" else anomalies

    def prediction(self, x: Fields, known: Known) -> Fields:
        """Inverse of `x`."""
        return x + self._start(known) if self.target != "state" else x

    def _start(self, known: Known) -> Fields:
        """What is added to: the last anomaly that is known, or that of the background."""
        if self.target == "tendency":
            return known.past[:, 0]
        assert known.background is not None
        return self.anomalies(known.background[:, self._same_places], known.valid)

    @cached_property
    def _same_places(self) -> list[int]:
        """Of the predicted channels in the background."""
        assert self.background is not None
        return self.background.places_of([channel.name for channel in self.channels])

    @property
    def scalar_names(self) -> tuple[str, ...]:
        season = SEASON if "season" in self.forcings else ()
        return (*season, LEAD) if len(self.leads) > 1 else season

    def scalars(self, valid: TimeAxis, lead: Ints) -> Fields | None:
        """[B, S] of the valid times [B], `lead` [B] steps ahead; None if there are none."""
        columns: list[npt.NDArray[Any]] = []
        if "season" in self.forcings:
            columns.append(sun.season(_of_the_year(valid)))
        if len(self.leads) > 1:
            columns.append(lead[:, None])
        return np.concatenate(columns, axis=1, dtype=np.float32) if columns else None

    def num_context_channels(self, num_channels: int) -> int:
        own = sum(len(CHANNELS[name]) for name in self.forcings)
        own += 0 if self.background is None else len(self.background.names)
        return self.num_past * num_channels + len(self.static) + own

    def context(self, known: Known) -> Fields | None:
        """[B, C', H, W] or None.

        Past anomalies, the newest first, the background, static fields, forcings.
        """
        past, valid, background = known
        parts: list[npt.NDArray[Any]] = [
            past.reshape(len(valid), -1, len(self.latitude), len(self.longitude))
        ]
        if background is not None:
            parts.append(background)
        parts.append(np.broadcast_to(self.static, (len(valid), *self.static.shape)))
        parts += [self._forcing(name, valid) for name in self.forcings if CHANNELS[name]]
        context = np.concatenate(parts, axis=1, dtype=np.float32)
        return context if context.shape[1] else None

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
