"""Fields of another source at the predicted time: a coarse state, or a forecast to improve on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from pydantic import Field

from rawdiff.errors import UserError
from rawdiff.settings import Settings
from rawdiff_weather.axes import SAME, Fields, Floats, Ints, closes
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Plan, select
from rawdiff_weather.source import Source, open_source
from rawdiff_weather.times import TimeAxis


class BackgroundSettings(Settings):
    """Fields of another source."""

    path: str | tuple[str, ...]
    """One or several stores, files or patterns of them."""
    variables: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of its fields (default: those of the data)."""
    levels: tuple[float, ...] | None = Field(default=None, min_length=1)
    """Levels of its fields (default: those of the data). [hPa]"""


class Corners(NamedTuple):
    """For each wanted place its two neighbours in the source, and the share of the second."""

    first: Ints
    second: Ints
    share: Floats


@dataclass(frozen=True, eq=False)
class Background:
    """Fields of a source on a grid [H] x [W], between whose points they are linear.

    A source with lead times holds forecasts, which are taken from the init on; another one is
    taken at the valid time.
    """

    source: Source
    plan: Plan
    latitude: Floats
    longitude: Floats

    @staticmethod
    def of(settings: BackgroundSettings, predicted: Plan) -> Background:
        """UserError where it lacks a variable, or does not cover the grid of what is predicted."""
        source = open_source(settings.path)
        names = settings.variables or tuple(channel.name for channel in predicted.channels)
        lead_hours = source.leads[0] / 3600 if source.leads else None
        try:
            plan = select(source, names, settings.levels, lead_hours=lead_hours)
        except UserError as error:
            raise UserError(f"`background`: {error}") from error
        found = Background(source, plan, predicted.latitude, predicted.longitude)
        _ = found._rows, found._columns
        return found

    @property
    def names(self) -> list[str]:
        return [channel.name for channel in self.plan.channels]

    def places_of(self, names: Sequence[str]) -> list[int]:
        """UserError if one of them is not there."""
        if lacking := [name for name in names if name not in self.names]:
            raise UserError(
                f"`target: residual` is what {', '.join(lacking)} differs by from the background, "
                f"which has only {', '.join(self.names)}. Add it to `background.variables`."
            )
        return [self.names.index(name) for name in names]

    def has(self, valid: TimeAxis, init: TimeAxis) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether there are fields for each valid time [B] of a forecast from its init [B]."""
        place, lead = self._places(valid, init)
        return (place >= 0) & (lead >= 0)

    def require(self, valid: TimeAxis, init: TimeAxis) -> None:
        """UserError if a time is not there."""
        if missing := np.flatnonzero(~self.has(valid, init)).tolist():
            raise UserError(
                f"The background {self.source.paths[0]} has nothing for {valid.text(missing[0])} "
                f"from {init.text(missing[0])}. Choose other times, or fewer steps."
            )

    def at(self, valid: TimeAxis, init: TimeAxis) -> Fields:
        """[B, C, H, W]. UserError for a time that is not there."""
        self.require(valid, init)
        place, lead = self._places(valid, init)
        grid = (len(self.latitude), len(self.longitude))
        fields = np.empty((len(place), len(self.names), *grid), dtype=np.float32)
        for number in np.unique(lead).tolist():
            here = np.flatnonzero(lead == number)
            reader = self._readers.setdefault(number, Reader(replace(self.plan, lead=number)))
            fields[here] = self._on_grid(reader.read(place[here]))
        return fields

    @cached_property
    def _readers(self) -> dict[int, Reader]:
        return {}

    def _places(self, valid: TimeAxis, init: TimeAxis) -> tuple[Ints, Ints]:
        """Of each its time and lead in the source; -1: not there."""
        have = self.plan.times.seconds
        if valid.calendar != self.plan.times.calendar:
            raise UserError(
                f"The background counts time in the calendar {self.plan.times.calendar}, the data "
                f"in {valid.calendar}. Convert one of them, `dataset.convert_calendar`."
            )
        if not self.source.leads:
            return _find(have, valid.seconds), np.zeros(len(valid), np.int64)
        leads = np.array(self.source.leads)
        order = np.argsort(leads)
        found = _find(leads[order], valid.seconds - init.seconds)
        return _find(have, init.seconds), np.where(found < 0, -1, order[found])

    def _on_grid(self, fields: Fields) -> Fields:
        """Unchanged where the grids are the same."""
        rows, columns = self._rows, self._columns
        if rows is not None:
            share = rows.share.astype(np.float32)[:, None]
            fields = _between(fields[..., rows.first, :], fields[..., rows.second, :], share)
        if columns is not None:
            share = columns.share.astype(np.float32)
            fields = _between(fields[..., columns.first], fields[..., columns.second], share)
        return fields

    @cached_property
    def _rows(self) -> Corners | None:
        """None where latitudes are the same."""
        return _corners(-self.plan.latitude, -self.latitude, "latitude", period=None)

    @cached_property
    def _columns(self) -> Corners | None:
        start = self.plan.longitude[0]
        have = np.mod(self.plan.longitude - start, 360)
        wanted = np.mod(self.longitude - start + SAME, 360) - SAME
        return _corners(have, wanted, "longitude", 360 if closes(self.plan.longitude) else None)


def _find(have: Ints, wanted: Ints) -> Ints:
    """Places of wanted values among rising ones; -1: not there."""
    found = np.searchsorted(have, wanted).clip(max=len(have) - 1)
    return np.where(have[found] == wanted, found, -1)


def _between(first: Fields, second: Fields, share: Fields) -> Fields:
    """Linear; a value that stands alone is not made NaN by a neighbour that has no share."""
    mixed = (1 - share) * first + share * second
    return np.where(share == 0, first, np.where(share == 1, second, mixed))


def _corners(have: Floats, wanted: Floats, name: str, period: float | None) -> Corners | None:
    """Of rising `have`. UserError for places farther out than half a step."""
    if len(have) == len(wanted) and np.allclose(have, wanted, rtol=0, atol=SAME):
        return None
    if period is not None:
        have = np.append(have, have[0] + period)
    elif len(have) < 2:
        raise UserError(f"The background has a single {name}; it needs two to lie between.")
    margin = np.diff(have).max() / 2 + SAME
    sign = -1 if name == "latitude" else 1  # latitudes come turned around, to rise

    def span(values: Floats) -> str:
        low, high = sorted((sign * values[0], sign * values[-1]))
        return f"{low:g} to {high:g}"

    if wanted.min() < have[0] - margin or wanted.max() > have[-1] + margin:
        raise UserError(
            f"The background does not cover the {name}s of the data: it has {span(have)}, the data "
            f"{span(wanted)} degrees. Choose a smaller `region`."
        )
    second = np.searchsorted(have, wanted).clip(1, len(have) - 1)
    first = second - 1
    share = ((wanted - have[first]) / (have[second] - have[first])).clip(0, 1)
    share[np.abs(share) < SAME] = 0.0
    share[np.abs(share - 1) < SAME] = 1.0
    return Corners(first, second % len(have) if period is None else second % (len(have) - 1), share)
