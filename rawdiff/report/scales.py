"""Numbers on axes: where the ticks lie, and how numbers are written short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NICE = (1, 2, 2.5, 5, 10)
WIDE = 4.0  # largest over smallest value, from which on a scale is logarithmic


@dataclass(frozen=True)
class Scale:
    """From values between `low` and `high` to 0 … 1."""

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """0 for the lowest value, 1 for the highest; a value outside lies on the border."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def ticks(self, num: int = 4) -> list[float]:
        """About `num` round values between low and high."""
        if self.is_log:
            return self._log_ticks(num)
        step = (self.high - self.low) / num
        power = 10.0 ** math.floor(math.log10(step))
        step = next(nice * power for nice in NICE if nice * power >= step * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _log_ticks(self, num: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            all_ticks = [
                digit * 10.0**power for power in range(first, last + 1) for digit in digits
            ]
            ticks = [tick for tick in all_ticks if self.low <= tick <= self.high]
            if len(ticks) >= num - 1:
                break
        every = -(-len(ticks) // (2 * num))  # of many decades some
        return ticks[::every]


def scale_of(values: Sequence[float], *, from_zero: bool = False) -> Scale:
    """One that holds all values: from zero, or logarithmic where they are far apart."""
    low, high = min(values), max(values)
    if from_zero and low >= 0:
        return Scale(0.0, 1.06 * high or 1.0)
    if low > 0 and high > WIDE * low:
        return Scale(low / 1.1, high * 1.1, is_log=True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room)


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Short, with as many digits as it takes to tell what they are: 1.075 is not 1.07."""
    step = min((b - a for a, b in pairwise(ticks)), default=math.inf)
    for digits in range(3, 7):
        if all(abs(float(f"{tick:.{digits}g}") - tick) <= 0.01 * step for tick in ticks):
            break
    return [short(tick, digits) for tick in ticks]


def short(number: float, digits: int = 3) -> str:
    """ "12k", "3.4M", "0.05": so many digits at most, but for whole thousands."""
    size = abs(number)
    if size == 0:
        return "0"
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            divisor = 1e3 if unit == "k" else limit
            return f"{number / divisor:.{digits}g}{unit}"
    if size >= 1000:
        return f"{number:,.{max(digits - 4, 0)}f}"
    return f"{number:.{digits}g}"


def clock(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
