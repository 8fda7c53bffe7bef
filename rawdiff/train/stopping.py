"""A run stops between two steps, with a checkpoint, when it is asked to."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopSignal:
    """True once SIGINT, SIGTERM or SIGUSR1 came. A second SIGINT interrupts at once, as usual."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[int, signal._HANDLER] = {}

    def __bool__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        signal.signal(number, self._before[number])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
