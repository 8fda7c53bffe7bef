"""A disk that fails at a chosen operation, by Python's audit events."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "shutil.copyfile")


class Crash(BaseException):
    """The end of the process, as the disk sees it: nothing is done any more, not even tidied."""


_watch: list[Callable[[str, tuple], None]] = []


def _hook(event: str, args: tuple) -> None:
    for watch in _watch:
        watch(event, args)


sys.addaudithook(_hook)


@contextmanager
def watched(watch: Callable[[str, tuple], None]) -> Iterator[None]:
    _watch.append(watch)
    try:
        yield
    finally:
        _watch.clear()


@contextmanager
def crash_at(operation: int, folder: Path) -> Iterator[list[str]]:
    """Everything works until so many operations were done; yields those."""
    done: list[str] = []

    def watch(event: str, args: tuple) -> None:
        if event in CHANGES or (event == "open" and str(args[0]).startswith(str(folder))):
            if len(done) == operation:
                raise Crash(f"{event} {args}")
            done.append(event)

    with watched(watch):
        yield done


@contextmanager
def full_after(writes: int, folder: Path) -> Iterator[list[str]]:
    """After so many new files and folders there is no space for more; yields those."""
    done: list[str] = []

    def watch(event: str, args: tuple) -> None:
        writes_file = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
        if str(args[0]).startswith(str(folder)) and (event == "os.mkdir" or writes_file):
            if len(done) == writes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done.append(event)

    with watched(watch):
        yield done
