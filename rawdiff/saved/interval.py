"""When a checkpoint is due: every so many steps, or as often as pays.

With `auto` the time between two checkpoints is sqrt(2 C M), where a save stalls training for C and
a failure is expected every M (Young 1974; Daly 2006). The clock decides only when a checkpoint is
written, never what a step does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rawdiff.parallel.processes import Processes
from rawdiff.recipe import CheckpointSettings

FIRST_STEPS = 10  # the first checkpoint of `auto` comes early: it measures what one costs
SHORTEST, LONGEST = 60.0, 3600.0  # seconds between two
WORTH_SAYING = 1.5


def seconds_between(stall: float, mean_hours_between_failures: float) -> float:
    """Young and Daly's interval for a stall, both in seconds; between a minute and an hour."""
    best = math.sqrt(2 * stall * 3600 * mean_hours_between_failures)
    return min(max(best, SHORTEST), LONGEST)


class Interval:
    """The steps at which a checkpoint is due: the same in all processes, as the first decides."""

    def __init__(
        self, settings: CheckpointSettings, processes: Processes, say: Callable[[str], None]
    ) -> None:
        self.settings, self.processes, self.say = settings, processes, say
        self._next: int | None = None
        self._since = (0, 0.0)
        self._said = 0

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after this step; asked after each."""
        settings = self.settings
        if self._next is None:
            self._next, self._since = step - 1 + FIRST_STEPS, (step, time.perf_counter())
        if settings.keep_every_steps and step % settings.keep_every_steps == 0:
            return True
        if settings.every_steps != "auto":
            return step % settings.every_steps == 0
        return step >= self._next

    def plan(self, step: int, stall: float) -> None:
        """Set the next one, after a checkpoint of a step that stalled training for so many seconds.

        Called by all processes.
        """
        if self.settings.every_steps != "auto":
            return
        before, since = self._since
        now = time.perf_counter()
        step_seconds = max(now - since - stall, 1e-6) / max(step - before, 1)
        between = seconds_between(stall, self.settings.mean_hours_between_failures)
        steps = self.processes.from_first(lambda: max(round(between / step_seconds), 1))
        self._next, self._since = step + steps, (step, now)
        if not self._said / WORTH_SAYING <= steps <= self._said * WORTH_SAYING:
            self._said = steps
            self.say(
                f"A checkpoint every {steps:,} steps, about {between / 60:.1f} minutes: one stalls "
                f"training for {stall:.2f} s, and a failure is expected every "
                f"{self.settings.mean_hours_between_failures:g} hours."
            )
