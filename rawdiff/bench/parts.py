"""A clock for the parts of something that goes on in rounds; and how functions are given to it."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

Around = Callable[[str], AbstractContextManager[Any]]
"""What is to happen around a part of this name."""


class Parts:
    """Seconds of each named part, a value for each round; a GPU is waited for at every border.

    The outermost part is the round. A part within another counts for itself alone, so that the
    parts of a round add up to it. By the clock on the wall; `time.process_time` leaves out what
    other programs take of a CPU.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.device, self.clock = device, clock
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._round: dict[str, float] = defaultdict(float)
        self._within: list[float] = []  # of each open part, the seconds of those inside it

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """A round that an error ends is not kept."""
        self._wait()
        self._within.append(0.0)
        start = self.clock()
        try:
            yield
            self._wait()
        except BaseException:
            self._within.clear()
            self._round.clear()
            raise
        seconds = self.clock() - start
        self._round[name] += seconds - self._within.pop()
        if self._within:
            self._within[-1] += seconds
            return
        for part, spent in self._round.items():
            self.seconds[part].append(spent)
        self._round.clear()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.seconds.items()}


@contextmanager
def surrounded(functions: list[tuple[Any, str, str]], around: Around) -> Iterator[None]:
    """Functions with something around each call: (who has it, its name there, name of the part)."""
    with ExitStack() as stack:
        for owner, function, part in functions:
            stack.enter_context(_surrounded(owner, function, part, around))
        yield


@contextmanager
def _surrounded(owner: Any, name: str, part: str, around: Around) -> Iterator[None]:
    function, own = getattr(owner, name), vars(owner).get(name)

    def called(*args: Any, **kwargs: Any) -> Any:
        with around(part):
            return function(*args, **kwargs)

    def put(value: Any) -> None:
        if isinstance(owner, type):
            setattr(owner, name, value)
        else:
            vars(owner)[name] = value  # also where the owner is a frozen dataclass

    put(called)
    try:
        yield
    finally:
        if own is not None:
            put(own)
        else:
            del vars(owner)[name]  # that of its class is there again
