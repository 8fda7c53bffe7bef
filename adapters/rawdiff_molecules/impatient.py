"""A process that answers questions, and is replaced when it takes too long or dies."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from rawdiff.errors import UserError

Serve: TypeAlias = Callable[[Connection, Any], None]
"""serve(connection, setting) sends None when it is ready, then an answer to all it receives."""

START_TIMEOUT_S = 300  # a slow disk may take long to import what is needed


class Impatient:
    """Asks `serve` in a process of its own, which starts with the first question.

    The process ends with this one, or when `close` is called.
    """

    def __init__(self, serve: Serve, setting: Any) -> None:
        self._serve, self._setting = serve, setting
        self._running: tuple[Any, Connection] | None = None

    def ask(self, question: Any, timeout_s: float) -> Any | None:
        """The answer; None if it takes longer than `timeout_s`, or the process dies of it."""
        _, connection = self._running = self._running or self._start()
        try:
            connection.send(question)
            if connection.poll(timeout_s):
                return connection.recv()
        except (EOFError, OSError):  # it died
            pass
        self.close()
        return None

    def close(self) -> None:
        if self._running is None:
            return
        process, connection = self._running
        process.kill()
        process.join()
        connection.close()
        self._running = None

    def _start(self) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        ours, theirs = context.Pipe()
        process = context.Process(target=self._serve, args=(theirs, self._setting), daemon=True)
        process.start()
        theirs.close()
        try:
            if ours.poll(START_TIMEOUT_S):
                ours.recv()
                return process, ours
        except EOFError:
            pass
        process.kill()
        raise UserError(
            f"A process for `{self._serve.__name__}` did not start; what it said stands above."
        )
