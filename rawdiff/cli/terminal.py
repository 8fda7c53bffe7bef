"""What commands show: lines, JSON, how far they have come."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rawdiff.cli.progress import progress_of
from rawdiff.console import PatientConsole, lose

console = PatientConsole(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() else 160,  # a file or a pipe has no width
)


def put(text: str) -> None:
    """On standard output, as it stands; where nobody reads on, that is no mistake."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        lose(sys.stdout)


def print_json(content: object) -> None:
    put(json.dumps(content, indent=1) + "\n")


def say(text: str) -> None:
    console.print(text, markup=False)


@contextmanager
def bar_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows progress; call it with (done, total)."""
    with progress_of(what, console, say) as progress:
        yield progress
