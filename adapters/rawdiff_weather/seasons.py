"""Which part of the year a time lies in: a month, a day, or an hour of a day.

Times are numpy datetime64 of the standard calendar.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from rawdiff.errors import UserError

Times: TypeAlias = npt.NDArray[np.datetime64]
Season: TypeAlias = Literal["month", "day", "hour"]
"""By month; by day of the year; by day of the year and time of day."""

DAYS = 366
MINUTES = 24 * 60
LEAP_DAY = 59  # 29 February, counted from 0
FIRST_OF_MONTH = np.cumsum([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30])  # of a leap year


def natural_season(times: Times) -> Season:
    """The finest season in which a series has one time a year: by its usual step."""
    step = np.median(np.diff(times)) if len(times) > 1 else np.timedelta64(0, "D")
    if step >= np.timedelta64(27, "D"):
        return "month"
    return "day" if step >= np.timedelta64(1, "D") else "hour"


def slots(times: Any, by: Season) -> npt.NDArray[np.int64]:
    """The number of each time's slot in the year.

    A month from 0; or a day from 0 to 365, of a year with 29 February, so that a date has the
    same slot in every year; or that day times 1440 plus the minute of the day.
    """
    times = np.asarray(times, dtype="datetime64[m]")
    months = times.astype("datetime64[M]")
    month = months.astype(np.int64) % 12
    if by == "month":
        return month
    dates = times.astype("datetime64[D]")
    day = FIRST_OF_MONTH[month] + (dates - months.astype("datetime64[D]")).astype(np.int64)
    if by == "day":
        return day
    return day * MINUTES + (times - dates).astype(np.int64)


def years(times: Times) -> npt.NDArray[np.int64]:
    return times.astype("datetime64[Y]").astype(np.int64) + 1970


def day_and_minute(slot: int, by: Season) -> tuple[int, int]:
    """The day of a slot that is not a month, and the minute of the day (0 if by day)."""
    return divmod(slot, MINUTES) if by == "hour" else (slot, 0)


def slot_of_day(day: int, minute: int, by: Season) -> int:
    """The inverse of `day_and_minute`, with days that go round the year."""
    return day % DAYS * MINUTES + minute if by == "hour" else day % DAYS


def slot_name(slot: int, by: Season) -> str:
    """`March`, `1 March` or `1 March, 06:00`."""
    if by == "month":
        return calendar.month_name[slot + 1]
    day, minute = day_and_minute(slot, by)
    month = int(np.searchsorted(FIRST_OF_MONTH, day, side="right")) - 1
    name = f"{day - FIRST_OF_MONTH[month] + 1} {calendar.month_name[month + 1]}"
    return name if by == "day" else f"{name}, {minute // 60:02d}:{minute % 60:02d}"


class SameSeason:
    """Of each training year the time in the same season: the climatological ensemble.

    Every forecast has the same number of members, `num_members`: the number of years of the
    season with the fewest; others leave out their earliest. The members of 29 February are those
    of 28 February. UserError if a season has two times in a year, or fewer than two years.
    """

    def __init__(self, times: Sequence[np.datetime64] | Times, by: Season) -> None:
        times = np.asarray(times)
        self.by: Season = by
        self._indices: dict[int, list[int]] = {}
        order = np.argsort(times, kind="stable")
        for i, slot in zip(order.tolist(), slots(times[order], by).tolist(), strict=True):
            if slot == _without_leap_day(slot, by):
                self._indices.setdefault(slot, []).append(i)
        for slot, indices in self._indices.items():
            found = years(times[indices])
            if len(np.unique(found)) < len(found):
                raise UserError(
                    f"The season `{slot_name(slot, by)}` has several times in one year, so years "
                    f"are no members by {by}. Take the season `{natural_season(times[order])}`."
                )
        fewest = min(self._indices, key=lambda slot: len(self._indices[slot]), default=None)
        self.num_members = 0 if fewest is None else len(self._indices[fewest])
        if fewest is None or self.num_members < 2:
            name = "Every season" if fewest is None else f"The season `{slot_name(fewest, by)}`"
            raise UserError(
                f"{name} has {self.num_members} training years, but an ensemble of years needs 2. "
                "Give whole years of training data at even steps."
            )

    def indices(self, valid: np.datetime64) -> npt.NDArray[np.int64]:
        """Indices [num_members] into the training times, from early to late."""
        slot = _without_leap_day(int(slots(valid, self.by)), self.by)
        if slot not in self._indices:
            raise UserError(
                f"No training year has data at `{slot_name(slot, self.by)}`, where {valid} lies. "
                "Forecast for times of day and months that the training data have."
            )
        return np.array(self._indices[slot][-self.num_members :])


def _without_leap_day(slot: int, by: Season) -> int:
    """The slot of 28 February for that of 29 February."""
    if by == "month":
        return slot
    day, minute = day_and_minute(slot, by)
    return slot_of_day(day - 1, minute, by) if day == LEAP_DAY else slot
