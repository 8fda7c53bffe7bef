"""How much of the time that a user gave is left for what."""

from __future__ import annotations

import time
from collections.abc import Callable

from rawdiff.errors import UserError
from rawdiff.parallel.processes import ALONE, Processes

Say = Callable[[str], None]

MAX_STEPS = 30
AT_LEAST = 3


class Budget:
    """So many seconds from now on. The first process's clock counts for all."""

    def __init__(self, seconds: float, processes: Processes = ALONE) -> None:
        if not seconds > 0:
            raise UserError(f"--seconds {seconds:g} is no time; give some, such as 60.")
        self.seconds, self.processes = seconds, processes
        self._begin = time.perf_counter()

    def left(self, until: float = 1.0) -> float:
        """Seconds until this share of all is gone; not below 0. Called by all processes."""
        return self.processes.from_first(lambda: self._left(until))

    def num_steps(self, step: float, until: float) -> int:
        """How many steps of so many seconds there is time for: a few at least, or one long one.

        Called by all processes.
        """
        enough = int(self._left(until) / max(step, 1e-6))
        least = AT_LEAST if AT_LEAST * step < self.seconds / 4 else 1
        return self.processes.from_first(lambda: min(max(enough, least), MAX_STEPS))

    def _left(self, until: float) -> float:
        return max(until * self.seconds - (time.perf_counter() - self._begin), 0.0)
