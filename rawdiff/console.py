"""Lines on a terminal, in a file or a pipe, of which a run must not depend."""

from __future__ import annotations

import os
from typing import IO

from rich.console import Console


class PatientConsole(Console):
    """Where who read has gone (`| head -1`, a `tee` that was killed), it falls silent."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        lose(self.file)


def lose(file: IO[str]) -> None:
    """What is still to be written there goes nowhere, without a complaint at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)
