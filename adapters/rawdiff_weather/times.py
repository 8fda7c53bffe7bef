"""Time of any CF calendar in whole seconds, so that plain integers say what follows what."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import cftime
import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

from rawdiff.errors import UserError

Ints: TypeAlias = npt.NDArray[np.int64]

PROLEPTIC = "proleptic_gregorian"
EPOCH = "seconds since 1970-01-01"
HOUR, DAY = 3600, 86_400
UNITS = {"second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": DAY, "day": DAY}
MONTHS = {"month": 1, "y": 12, "year": 12}
DATE = re.compile(
    r"(-?\d{1,5})(?:-(\d\d?)(?:-(\d\d?)(?:[T ](\d\d?)(?::?(\d\d)(?::?(\d\d))?)?)?)?)?Z?$"
)


def _date_text(value: Any) -> Any:
    """YAML reads 1979 as a number and 1979-01-01 as a date."""
    if isinstance(value, datetime.date):  # or a time of day with it
        return value.isoformat()
    return str(value) if isinstance(value, int) else value


Date = Annotated[str, BeforeValidator(_date_text)]


@dataclass(frozen=True)
class Step:
    """A distance in time: `count` seconds or calendar months."""

    count: int
    unit: Literal["seconds", "months"] = "seconds"

    @staticmethod
    def parse(text: str) -> Step:
        """`6h`, `30 min`, `day`, `1 month`, `2 years`. UserError for anything else."""
        match = re.fullmatch(r"(\d*)\s*([a-z]+?)s?", text.strip().lower())
        count, unit = (int(match[1] or 1), match[2]) if match else (0, "")
        if not count or unit not in {**UNITS, **MONTHS}:
            raise UserError(f"`{text}` is no time step. Write such as 6h, 1 day or 1 month.")
        if unit in MONTHS:
            return Step(count * MONTHS[unit], "months")
        return Step(count * UNITS[unit])

    def times(self, number: int) -> str:
        """So many of them, in words: `3 days`."""
        return str(replace(self, count=self.count * number))

    def __str__(self) -> str:
        if self.unit == "months":
            return f"{self.count} month{'s' if self.count != 1 else ''}"
        for name, size in (("day", DAY), ("hour", 3600), ("minute", 60), ("second", 1)):
            if self.count % size == 0:
                number = self.count // size
                return f"{number} {name}{'s' if number != 1 else ''}"
        raise AssertionError


@dataclass(frozen=True)
class Gap:
    """Between the times at `index` and `index + 1` there are `missing` steps (0: a part of one)."""

    index: int
    before: str
    after: str
    missing: int


class DateParts(NamedTuple):
    """Of each time [T]: counted from 1, but for the second of the day, which counts from 0."""

    year: Ints
    month: Ints
    day: Ints
    day_of_year: Ints
    days_in_year: Ints
    second_of_day: Ints


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """Rising times [T] as whole `seconds` since 1970-01-01T00 counted in `calendar`.

    For `proleptic_gregorian` they are those of numpy's datetime64[s]. `step` is the distance of
    neighbours where there is no gap; None if there are fewer than two times.
    """

    seconds: Ints
    calendar: str = PROLEPTIC
    step: Step | None = None

    @staticmethod
    def of(seconds: Ints, calendar: str = PROLEPTIC) -> TimeAxis:
        """With the step that is found most often."""
        axis = TimeAxis(seconds, calendar)
        if len(seconds) < 2:
            return axis
        distances = np.diff(seconds)
        step = Step(_most_frequent(distances))
        if np.median(distances) >= 28 * DAY and len(np.unique(distances)) > 1:
            months = np.diff(axis._months)
            if (months > 0).all():
                step = Step(_most_frequent(months), "months")
        return replace(axis, step=step)

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, indices: Ints, step: str | None = None) -> TimeAxis:
        """Some of the times, whose step is `step` or stays."""
        wanted = Step.parse(step) if step else self.step
        return replace(self, seconds=self.seconds[indices], step=wanted)

    @property
    def datetime64(self) -> npt.NDArray[np.datetime64]:
        """UserError if the calendar is not the usual one."""
        if self.calendar != PROLEPTIC:
            raise UserError(
                f"Times of the calendar `{self.calendar}` are no usual dates. Convert the data, "
                "`dataset.convert_calendar('standard')`, where usual dates are needed."
            )
        return self.seconds.astype("datetime64[s]")

    def text(self, index: int) -> str:
        """Such as 2000-02-30T06:00."""
        return _text(int(self.seconds[index]), self.calendar)

    @cached_property
    def parts(self) -> DateParts:
        if self.calendar == PROLEPTIC:
            return _usual_parts(self.seconds)
        dates: Any = cftime.num2date(self.seconds, EPOCH, self.calendar)
        columns = [
            (d.year, d.month, d.day, d.dayofyr, _days_in_year(d.year, self.calendar))
            for d in dates.ravel()
        ]
        year, month, day, day_of_year, days = np.array(columns, dtype=np.int64).reshape(-1, 5).T
        return DateParts(year, month, day, day_of_year, days, np.mod(self.seconds, DAY))

    @property
    def _months(self) -> Ints:
        return self.parts.year * 12 + self.parts.month - 1

    def _counted(self, unit: str) -> Ints:
        return self._months if unit == "months" else self.seconds

    def later(self, number: int) -> Ints:
        """For each time the index of that `number` steps later (or earlier); -1: not there."""
        if number == 0 or self.step is None:
            return np.arange(len(self)) if number == 0 else np.full(len(self), -1)
        counted = self._counted(self.step.unit)
        wanted = counted + number * self.step.count
        found = np.searchsorted(counted, wanted).clip(max=len(self) - 1)
        return np.where(counted[found] == wanted, found, -1)

    def moved(self, number: int) -> TimeAxis:
        """Each of the times `number` steps later (or earlier), whether there are data or not."""
        assert self.step is not None or number == 0
        if self.step is None or number == 0:
            return self
        if self.step.unit == "seconds":
            return replace(self, seconds=self.seconds + number * self.step.count)
        seconds = [self._month_later(place, number * self.step.count) for place in range(len(self))]
        return replace(self, seconds=np.array(seconds, dtype=np.int64))

    def _month_later(self, place: int, num_months: int) -> int:
        """On the same day of the month, or on the last one where that month is shorter."""
        parts = self.parts
        year, month = divmod(int(self._months[place]) + num_months, 12)
        first = self._second(year, month + 1, 1, 0, 0, 0)
        next_year, next_month = divmod(year * 12 + month + 1, 12)
        num_days = (self._second(next_year, next_month + 1, 1, 0, 0, 0) - first) // DAY
        day = min(int(parts.day[place]), num_days)
        return first + (day - 1) * DAY + int(parts.second_of_day[place])

    def find(self, text: str) -> int:
        """The first time in a written date: `2010`, `2010-03`, `2010-03-05T06`.

        UserError if there is none.
        """
        first, end = self._period(text)
        place = int(np.searchsorted(self.seconds, first))
        if place == len(self) or self.seconds[place] >= end:
            near = [self.text(i) for i in (place - 1, place) if 0 <= i < len(self)]
            raise UserError(
                f"There are no data at `{text}`; next to it there are {' and '.join(near)}. "
                "Choose one of the times of the data."
            )
        return place

    def gaps(self) -> list[Gap]:
        """Where neighbours are not one step apart."""
        if self.step is None:
            return []
        distances = np.diff(self._counted(self.step.unit))
        return [
            Gap(i, self.text(i), self.text(i + 1), int(distances[i] - 1) // self.step.count)
            for i in np.flatnonzero(distances != self.step.count).tolist()
        ]

    def select(
        self, start: str | None = None, end: str | None = None, step: str | None = None
    ) -> Ints:
        """Indices from `start` to `end`, both included, every `step` counted from the first.

        A date such as `2010` or `2010-03` means all of it. UserError if nothing is left.
        """
        first = self._period(start)[0] if start else self.seconds[0]
        last = self._period(end)[1] if end else self.seconds[-1] + 1
        indices = np.flatnonzero((self.seconds >= first) & (self.seconds < last))
        if not len(indices):
            raise UserError(
                f"There is no time from {start or 'the first'} to {end or 'the last'}; the data "
                f"go from {self.text(0)} to {self.text(-1)}. Change the range."
            )
        if step is None:
            return indices
        wanted = Step.parse(step)
        units_differ = self.step and self.step.unit == "months" and wanted.unit == "seconds"
        if self.step and (units_differ or self._is_between(wanted)):
            raise UserError(
                f"The times are {self.step} apart, so a step of {wanted} cannot be taken. Choose "
                "a multiple."
            )
        counted = self._counted(wanted.unit)[indices]
        if wanted.unit == "months":
            counted, firsts = np.unique(counted, return_index=True)  # of each month its first
            indices = indices[firsts]
        return indices[(counted - counted[0]) % wanted.count == 0]

    def _is_between(self, wanted: Step) -> bool:
        """Whether a step of the same unit is no multiple of the own."""
        assert self.step is not None
        return self.step.unit == wanted.unit and wanted.count % self.step.count != 0

    def _period(self, text: str) -> tuple[int, int]:
        """The first second of a written date, and the first after it."""
        match = DATE.match(text.strip())
        if not match:
            raise UserError(f"`{text}` is no date. Write such as 2010, 2010-03 or 2010-03-05T06.")
        given = [int(part) for part in match.groups() if part is not None]
        full = given + [1, 1, 0, 0, 0][len(given) - 1 :]
        try:
            first = self._second(*full)
        except ValueError as error:
            raise UserError(
                f"`{text}` is no date of the calendar `{self.calendar}` ({error}). Write another."
            ) from error
        if len(given) == 1:
            return first, self._second(full[0] + 1, *full[1:])
        if len(given) == 2:
            year, month = divmod(full[0] * 12 + full[1], 12)
            return first, self._second(year, month + 1, *full[2:])
        return first, first + (DAY, 3600, 60, 1)[len(given) - 3]

    def _second(self, *date: int) -> int:
        return int(cftime.date2num(cftime.datetime(*date, calendar=self.calendar), EPOCH))


def _most_frequent(values: Ints) -> int:
    """The smallest of those that come most often."""
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _text(seconds: int, calendar: str) -> str:
    date: Any = cftime.num2date(seconds, EPOCH, calendar)
    return str(date.strftime("%Y-%m-%dT%H:%M:%S" if seconds % 60 else "%Y-%m-%dT%H:%M"))


def _days_in_year(year: int, calendar: str) -> int:
    dates = [cftime.datetime(y, 1, 1, calendar=calendar) for y in (year, year + 1)]
    return int((dates[1] - dates[0]).days)


def _usual_parts(seconds: Ints) -> DateParts:
    times = seconds.astype("datetime64[s]")
    years, months, days = (times.astype(f"datetime64[{unit}]") for unit in "YMD")
    return DateParts(
        year=years.astype(np.int64) + 1970,
        month=months.astype(np.int64) % 12 + 1,
        day=(days - months).astype(np.int64) + 1,
        day_of_year=(days - years).astype(np.int64) + 1,
        days_in_year=((years + 1).astype("datetime64[D]") - years).astype(np.int64),
        second_of_day=np.mod(seconds, DAY),
    )
