"""A run stops between two steps, with a checkpoint, when it is asked to or its time is over."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType

STOPPED = 75
"""The exit code of a command that was stopped and can be continued: EX_TEMPFAIL of sysexits.h."""

# A batch job is killed at its end: it stops before, by a tenth of what it had, but no more.
LONGEST_MARGIN = 300.0


class StoppedError(Exception):
    """The run was stopped with a checkpoint; the same command continues."""


@dataclass(frozen=True)
class TimeLimit:
    """When a run stops by itself, on the clock `time.monotonic`, and why; None: never."""

    ends: float | None = None
    reason: str = ""

    @classmethod
    def begin(cls, hours: float | None) -> TimeLimit:
        """`hours` from now, or before the end of the SLURM job that this runs in.

        An end that lies in the past is not believed: the variable is of an earlier job.
        """
        ends = [] if hours is None else [(3600 * hours, f"`train.stop_after_hours: {hours}`")]
        left = float(os.environ.get("SLURM_JOB_END_TIME") or 0) - time.time()
        if left > 0:
            ends.append((left - min(0.1 * left, LONGEST_MARGIN), "the end of the SLURM job"))
        if not ends:
            return cls()
        seconds, reason = min(ends)
        return cls(time.monotonic() + seconds, reason)

    @property
    def is_over(self) -> bool:
        return self.ends is not None and time.monotonic() >= self.ends


def _hears_signals() -> bool:
    """Only the main thread may; a run in another one is stopped by who started it."""
    return threading.current_thread() is threading.main_thread()


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    raise StoppedError


@contextmanager
def stop_at_once() -> Iterator[None]:
    """SIGTERM and SIGUSR1 raise StoppedError: there is nothing new to save, and nothing is lost."""
    numbers = (signal.SIGTERM, signal.SIGUSR1) if _hears_signals() else ()
    before = {number: signal.signal(number, _stop_at_once) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopSignal:
    """True once SIGINT, SIGTERM or SIGUSR1 came. A later SIGINT interrupts at once, as usual.

    Others that follow are what a launcher sends to make sure, and must not end the last save.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._since = 0.0
        self._before: dict[int, signal._HANDLER] = {}

    def __bool__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> StopSignal:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if _hears_signals() else ()
        for number in numbers:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if self.received is None:
            self.received, self._since = signal.Signals(number).name, time.monotonic()
        elif number == signal.SIGINT and callable(before) and self._is_meant_anew():
            before(number, frame)

    def _is_meant_anew(self) -> bool:
        """Ctrl-C comes twice at once: from the terminal and from torchrun, which hands it on."""
        return time.monotonic() - self._since > 2

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
