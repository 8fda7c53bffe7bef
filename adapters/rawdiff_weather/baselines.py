"""Forecasts that need no model: what a forecast must beat to be worth its name.

    persistence                   x(t0)
    climatology                   c(t)
    anomaly persistence           c(t) + (x(t0) - c(t0))
    damped anomaly persistence    c(t) + r (x(t0) - c(t0)),  r for each lead and point

for a valid time t after the init t0; an ensemble of climatology is `seasons.SameSeason`. All are
NaN where the state or the climatology is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff_weather.seasons import (
    LEAP_DAY,
    Season,
    Times,
    day_and_minute,
    slot_name,
    slot_of_day,
    slots,
)


class Climatology:
    """Means of the training years by season, in a stream and NaN-aware.

    Holds a sum (float64) and a count (float32) for each slot that occurred: 12 bytes a value, so
    by hour of the day only for coarse grids. Parts of a stream can be merged.
    """

    def __init__(self, by: Season) -> None:
        self.by: Season = by
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, Tensor] = {}

    def update(self, times: Times, x: Tensor) -> None:
        """Adds states x [T, C, H, W] at times [T]."""
        for slot, state in zip(slots(times, self.by).tolist(), x, strict=True):
            known = ~state.isnan()
            self._add(slot, torch.where(known, state, 0).double(), known.float())

    def merge(self, other: Climatology) -> None:
        assert self.by == other.by
        for slot in other._sums:
            self._add(slot, other._sums[slot], other._counts[slot])

    def _add(self, slot: int, total: Tensor, count: Tensor) -> None:
        if slot in self._sums:
            total, count = self._sums[slot] + total, self._counts[slot] + count
        self._sums[slot], self._counts[slot] = total, count

    def smoothed(self, num_days: int = 61) -> Climatology:
        """The same with days mixed, at the same time of day, in a window of an odd `num_days`.

            w(d) ∝ 1 - |d| / ((num_days + 1) / 2)

        falls evenly to 0 beyond the window, as in WeatherBench 2 (Rasp et al. 2024: 61 days).
        """
        if self.by == "month" or num_days < 1 or num_days % 2 == 0:
            raise UserError(
                f"A climatology by {self.by} cannot be smoothed over {num_days} days. Give an odd "
                "number of days, and a climatology by day or hour."
            )
        half = num_days // 2
        result = Climatology(self.by)
        for slot in self._sums:
            day, minute = day_and_minute(slot, self.by)
            for d in range(-half, half + 1):
                near = slot_of_day(day + d, minute, self.by)
                if near in self._sums:
                    w = 1 - abs(d) / (half + 1)
                    result._add(slot, w * self._sums[near], w * self._counts[near])
        return result

    def at(self, time: np.datetime64) -> Tensor:
        """The mean state [C, H, W] of the time's season, float32; NaN where never known.

        That of 29 February is of 28 and 29 February and 1 March together, as leap years are few.
        UserError if no training time lies in the season.
        """
        slot = int(slots(time, self.by))
        near = [slot]
        if self.by != "month":
            day, minute = day_and_minute(slot, self.by)
            if day == LEAP_DAY:
                near = [slot_of_day(day + d, minute, self.by) for d in (-1, 0, 1)]
        near = [slot for slot in near if slot in self._sums]
        if not near:
            raise UserError(
                f"The climatology has no data at `{slot_name(slot, self.by)}`, where {time} lies. "
                "Compute it from whole years at the same times of day."
            )
        total = torch.stack([self._sums[slot] for slot in near]).sum(0)
        return (total / torch.stack([self._counts[slot] for slot in near]).sum(0)).float()

    def state_dict(self) -> dict[str, Any]:
        """Plain data and CPU tensors, which `torch.load` reads safely."""
        return {"by": self.by, "sums": dict(self._sums), "counts": dict(self._counts)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Climatology:
        climatology = cls(state["by"])
        climatology._sums, climatology._counts = dict(state["sums"]), dict(state["counts"])
        return climatology


class Damping:
    """How much of an anomaly is left after each lead: a regression at each point, in a stream.

        r = Σ a(t0) a(t0 + lead) / Σ a(t0)²

    over training inits, of anomalies a = x - c; the factor of least squared error. It is 0 where
    nothing is known, so that the forecast is climatology there.
    """

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}  # [2, C, H, W]: numerator and denominator

    def update(self, lead: int, anomaly: Tensor, later: Tensor) -> None:
        """Adds one init: anomalies [C, H, W] then and a lead later."""
        a, b = anomaly.double(), later.double()
        sums = torch.stack([a * b, a * a]).where(~(a * b).isnan(), 0.0)
        self._sums[lead] = self._sums[lead] + sums if lead in self._sums else sums

    def merge(self, other: Damping) -> None:
        for lead, sums in other._sums.items():
            self._sums[lead] = self._sums[lead] + sums if lead in self._sums else sums

    def factor(self, lead: int) -> Tensor:
        """r [C, H, W], float32. UserError for a lead without training data."""
        if lead not in self._sums:
            raise UserError(
                f"Damped persistence was not fitted at lead {lead}, only at {sorted(self._sums)}. "
                "Update it with anomalies at this lead too."
            )
        product, square = self._sums[lead]
        return torch.where(square > 0, product / square, 0.0).float()


def baseline_forecasts(
    state: Tensor,
    init: np.datetime64,
    valid: np.datetime64,
    climatology: Climatology,
    damping: Tensor | None = None,
) -> dict[str, Tensor]:
    """Forecasts [C, H, W] by the names at the head of this file, from the state x(t0).

    The damped one needs `Damping.factor` of the lead.
    """
    then, now = climatology.at(init), climatology.at(valid)
    forecasts = {
        "persistence": state,
        "climatology": now,
        "anomaly persistence": now + (state - then),
    }
    if damping is not None:
        forecasts["damped anomaly persistence"] = now + damping * (state - then)
    return forecasts
