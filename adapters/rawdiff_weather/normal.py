"""What is usual in the training years: the mean of each season, its years, what persists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff_weather.axes import Ints
from rawdiff_weather.baselines import Climatology, Damping
from rawdiff_weather.reading import Reader
from rawdiff_weather.seasons import SameSeason, natural_season

AT_ONCE = 2**28  # bytes of states


def climatology_of(reader: Reader) -> Climatology:
    """By the finest season of which each year has one. UserError for an unusual calendar."""
    times = reader.plan.times.datetime64
    found = Climatology(natural_season(times))
    for part in _parts(reader):
        found.update(times[part], torch.from_numpy(reader.read(part)))
    return found


@dataclass(frozen=True, eq=False)
class Normal:
    """Of the states that a reader gives. `years` is None where there are too few."""

    reader: Reader
    climatology: Climatology
    damping: Damping
    years: SameSeason | None

    @staticmethod
    def of(reader: Reader, steps: list[int]) -> Normal | None:
        """Reads all training states twice. None for a calendar that numpy has no dates of."""
        times = reader.plan.times
        try:
            climatology = climatology_of(reader)
        except UserError:
            return None
        damping, later = Damping(), {step: times.later(step) for step in steps}
        for part in _parts(reader):
            anomalies = _anomalies(reader, part, climatology)
            for step in steps:
                after = later[step][part]
                here = np.flatnonzero(after >= 0)
                if len(here):
                    then = _anomalies(reader, after[here], climatology)
                    for anomaly, one in zip(anomalies[here], then, strict=True):
                        damping.update(step, anomaly, one)
        try:
            years = SameSeason(times.datetime64, climatology.by)
        except UserError:
            years = None  # fewer than two years
        return Normal(reader, climatology, damping, years)


def _parts(reader: Reader) -> Iterator[Ints]:
    """All places in time, as many at once as memory should hold."""
    num, size = len(reader.plan.times), max(1, AT_ONCE // (4 * int(np.prod(reader.plan.shape))))
    return (np.arange(start, min(start + size, num)) for start in range(0, num, size))


def _anomalies(reader: Reader, places: Ints, climatology: Climatology) -> Tensor:
    dates = reader.plan.times.take(places).datetime64
    states = torch.from_numpy(reader.read(places))
    return torch.stack([x - climatology.at(d) for x, d in zip(states, dates, strict=True)])
