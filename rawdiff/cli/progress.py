"""How far a command has come and how long it takes still: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import Progress

EVERY = 30.0  # seconds between two lines


@dataclass
class Lines:
    """Call it with (done, total): a line now and then, for a file or a pipe."""

    what: str
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _start: tuple[float, int, int] | None = field(default=None, init=False)
    _told: float = field(default=0.0, init=False)

    def __call__(self, done: int, total: int) -> None:
        now = self.clock()
        if self._start is None or self._start[2] != total or done < self._start[1]:
            self._start, self._told = (now, done, total), now  # another piece of work
            return
        begun, before, _ = self._start
        if now - self._told < EVERY or not before < done < total:
            return
        self._told = now
        left = timedelta(seconds=round((now - begun) / (done - before) * (total - done)))
        self.say(f"{self.what}: {done:,} of {total:,}  {left} left")


@contextmanager
def progress_of(
    what: str, console: Console, say: Callable[[str], None]
) -> Iterator[Callable[[int, int], None]]:
    """Call what comes with (done, total)."""
    if not console.is_terminal:
        yield Lines(what, say)
        return
    with Progress(console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
