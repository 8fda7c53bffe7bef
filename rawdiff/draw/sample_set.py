"""A set of samples on disk, made batch by batch by any processes, and continued after a kill.

`settings.json` says what the samples depend on. A finished batch is a folder in `.parts-…`, which
took its name when all of it was on the disk; files of single samples then move out of it. When
all batches are there, what they share is joined, and the list of all files ends the set.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff.files import atomic, locked, sync, write_text

SETTINGS_FILE, LIST_FILE, LOCK_FILE = "settings.json", ".files.json", ".lock"
PARTS, PARTIAL = ".parts-", ".partial-"
FILES, SHOWN = "files", "shown.npz"  # in the folder of a batch
PICTURE, FILM = "picture.png", "film.gif"
NO_MATTER = ("run",)  # a folder may be moved, or called otherwise; a digest tells its weights


@dataclass(frozen=True)
class SampleSet:
    """`num_samples` samples in a folder, in batches of consecutive numbers.

    `shared` are the names of files that hold something of all samples.
    """

    path: Path
    facts: Mapping[str, Any]
    num_samples: int
    batch_size: int
    shared: Sequence[str] = ()

    @contextmanager
    def held(self, holds: bool) -> Iterator[None]:
        """For the process that holds the folder, so that no second call writes into it.

        UserError if one does, or if the folder is none of samples.
        """
        if holds:
            _require_folder(self.path)
        with locked(self.path) if holds else nullcontext():
            yield

    def begin(
        self, say: Callable[[str], None], rehearse: Callable[[], object]
    ) -> list[range] | None:
        """The batches to draw, after what an earlier call left; None if the set is finished.

        What a call with other settings wrote is deleted, and nothing else, when `rehearse` has
        come to its end: a mistake costs no samples. UserError if the folder holds anything but
        samples. Called by the process that holds the folder.
        """
        settings, found = self.path / SETTINGS_FILE, _files_of(self.path)
        before = _read(settings)
        other = [name for name in _different(before, self._facts) if name not in NO_MATTER]
        if before and not other:
            if not (self.path / LIST_FILE).is_file():
                return self._go_on(say)
            gone = [name for name in found if not (self.path / name).exists()]
            if not set(gone) - {PICTURE, FILM}:
                self._remove_parts()
                say(f"All {self.num_samples:,} samples are there already.")
                return None
            say(f"Of the samples there {len(gone):,} files are gone: all are drawn anew.")
        others = {entry.name for entry in self.path.iterdir()} - {LOCK_FILE, SETTINGS_FILE}
        others = {name for name in others if not name.startswith(PARTS)}
        if others and not (settings.is_file() and found):
            raise UserError(f"{self.path} holds something else than samples; give another folder.")
        if found:
            rehearse()
        if before and other:
            say(f"Samples there are replaced: they have another {', '.join(other)}.")
        with writing(self.path):
            _delete(self.path, found)
            write_text(settings, json.dumps(self.facts, indent=1))
        return self._go_on(say)

    def publish(
        self, first: int, write: Callable[[Path], object], shown: Mapping[str, Any]
    ) -> None:
        """Have the batch that begins with sample number `first` written into a folder.

        `shown` are its arrays for the picture. UserError where the disk refuses.
        """
        final = self._part(first)
        partial = self._parts / f"{PARTIAL}{final.name}-{uuid.uuid4().hex[:12]}"
        with writing(self.path):
            try:
                (partial / FILES).mkdir(parents=True)
                write(partial / FILES)
                with atomic(partial / SHOWN) as file:
                    np.savez(file, **shown)
                write_text(partial / LIST_FILE, json.dumps(self._names(partial / FILES)))
                for path in (partial / FILES).rglob("*"):
                    sync(path)
                if not final.exists():  # else a call that was killed left a process behind
                    partial.rename(final)
                    sync(self._parts)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            self._move_out(final)

    def num_there(self) -> int:
        """How many samples are finished."""
        return sum(len(batch) for batch in self._batches() if self._part(batch.start).exists())

    def shown(self) -> list[dict[str, Array]]:
        """What was kept of each batch for the picture, in order, as far as there is anything."""
        found = []
        for batch in self._batches():
            with np.load(self._part(batch.start) / SHOWN) as arrays:
                if not arrays.files:
                    break
                found.append(dict(arrays))
        return found

    def finish(self, join: Callable[[Sequence[Path]], object]) -> None:
        """Have the files that batches share joined from their folders, in order.

        Called by the process that holds the folder, when all batches are there.
        """
        parts = [self._part(batch.start) / FILES for batch in self._batches()]
        with writing(self.path):
            join(parts)
            self.add(PICTURE)
        self._remove_parts()

    def add(self, name: str) -> None:
        """A file that was written beside a finished set belongs to it."""
        names = sorted({*_files_of(self.path), name})
        write_text(self.path / LIST_FILE, json.dumps(names))

    def _go_on(self, say: Callable[[str], None]) -> list[range]:
        with writing(self.path):
            self._parts.mkdir(exist_ok=True)
            for stale in self._parts.glob(f"{PARTIAL}*"):
                shutil.rmtree(stale, ignore_errors=True)
            there = [batch for batch in self._batches() if self._part(batch.start).exists()]
            for batch in there:
                self._move_out(self._part(batch.start))
        if there:
            say(f"{sum(map(len, there)):,} of {self.num_samples:,} samples are there already.")
        return [batch for batch in self._batches() if batch not in there]

    def _move_out(self, part: Path) -> None:
        """Files of single samples go to their place; what a kill leaves goes later."""
        for name in self._names(part / FILES):
            if name not in self.shared:
                target = self.path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                (part / FILES / name).replace(target)

    def _names(self, files: Path) -> list[str]:
        """Files that a writer left, and what is shared, which may be a folder."""
        own = [name for name in self.shared if (files / name).exists()]
        folders = [files / name for name in own]
        return own + [
            str(path.relative_to(files))
            for path in sorted(files.rglob("*"))
            if path.is_file() and not any(path == one or one in path.parents for one in folders)
        ]

    def _batches(self) -> list[range]:
        starts = range(0, self.num_samples, self.batch_size)
        return [range(i, min(i + self.batch_size, self.num_samples)) for i in starts]

    def _part(self, first: int) -> Path:
        return self._parts / f"{first:08d}"

    def _remove_parts(self) -> None:
        shutil.rmtree(self._parts, ignore_errors=True)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """As they come back from a file."""
        found: dict[str, Any] = json.loads(json.dumps(self.facts))
        return found

    @cached_property
    def _parts(self) -> Path:
        """Named by what samples depend on: those of other settings never mix with them."""
        matters = {name: fact for name, fact in self._facts.items() if name not in NO_MATTER}
        digest = hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()
        return self.path / f"{PARTS}{digest[:12]}"


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """UserError instead of what the system says when it refuses."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Samples cannot be written to {target}: {error}. Mend that; the same command goes on "
            "with what is missing."
        ) from error


def _require_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give a folder for the samples.")
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def _read(settings: Path) -> dict[str, Any]:
    """Empty where there are none, or not of this kind."""
    try:
        found = json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what differs, one level down where both have such."""
    found = []
    for name in sorted({*before, *now}):
        a, b = before.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f"{name}.{below}" for below in _different(a, b)]
        elif a != b:
            found.append(name)
    return found


def _files_of(folder: Path) -> list[str]:
    """All that an earlier call wrote into a folder, as far as it came."""
    lists = [folder / LIST_FILE, *folder.glob(f"{PARTS}*/[0-9]*/{LIST_FILE}")]
    found: list[str] = []
    for path in lists:
        with suppress(FileNotFoundError):
            found += json.loads(path.read_text(encoding="utf-8"))
    return found


def _delete(folder: Path, names: Sequence[str]) -> None:
    """These files, and folders that are empty then; what says which they are goes last."""
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        with suppress(OSError):
            if path.parent != folder:
                path.parent.rmdir()
    for parts in folder.glob(f"{PARTS}*"):
        shutil.rmtree(parts)
    (folder / LIST_FILE).unlink(missing_ok=True)
    (folder / SETTINGS_FILE).unlink(missing_ok=True)
