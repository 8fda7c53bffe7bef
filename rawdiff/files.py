"""Files that are there whole, or as they were before; folders that one process has to itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from rawdiff.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Write to a file beside it, which takes its name when all is on the disk.

    Left by an exception, `path` stays as it was and nothing is left over. Raises UserError where
    the system refuses to write.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error}. Free some space, or mend the rights of its folder."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Until it is on the disk; of a folder the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, content: str) -> None:
    with atomic(path) as file:
        file.write(content.encode("utf-8"))


def require_writable(path: Path) -> None:
    """UserError where no such file can be written; asked before long work for it."""
    try:
        is_new = not path.exists()
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Give another file.") from error


def require_new_folder(path: Path) -> None:
    """UserError unless nothing is there yet, or an empty folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} is there already, and is no empty folder; give another.")


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a folder for this process alone; the lock goes with the process, however it ends.

    Yields the descriptor of the lock: a process that inherits it holds the folder, too, also when
    this one is killed. Raises UserError if another process holds it.
    """
    try:
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process works in {folder}. Wait for it or stop it, or choose another "
                "folder."
            ) from error
        yield file.fileno()
