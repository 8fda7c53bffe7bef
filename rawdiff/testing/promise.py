"""A promise, how it is looked at, and what was found."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rawdiff.errors import UserError

Subject = TypeVar("Subject")


class BrokenPromiseError(AssertionError):
    """Lists every promise that does not hold, and how to mend it."""


class Note(str):
    """What was found beside a promise and breaks nothing."""

    __slots__ = ()


@dataclass(frozen=True)
class Promise(Generic[Subject]):
    """What must hold of a subject; `breaches` tells every way in which it does not.

    Where one that it `needs` is broken, it is not looked at.
    """

    name: str
    text: str
    breaches: Callable[[Subject], Iterator[str]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What was found of one promise. `waits_for` names the broken one that must hold before it."""

    name: str
    text: str
    breaches: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    waits_for: str | None = None

    @property
    def kept(self) -> bool:
        return not self.breaches and self.waits_for is None


def judge(promises: Sequence[Promise[Subject]], subject: Subject) -> list[Verdict]:
    """A verdict for each promise, in their order; whatever is raised breaks the promise."""
    verdicts: dict[str, Verdict] = {}
    for promise in promises:
        first = next((need for need in promise.needs if not verdicts[need].kept), None)
        said = [] if first is not None else _said(promise, subject)
        verdicts[promise.name] = Verdict(
            promise.name,
            promise.text,
            tuple(text for text in said if not isinstance(text, Note)),
            tuple(text for text in said if isinstance(text, Note)),
            first,
        )
    return list(verdicts.values())


def _said(promise: Promise[Subject], subject: Subject) -> list[str]:
    said: list[str] = []
    try:
        for text in promise.breaches(subject):
            said.append(text)  # noqa: PERF402, what was said before an error counts, too
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        own_words = isinstance(error, UserError)  # which say what to mend
        said.append(str(error) if own_words else f"{type(error).__name__}: {error} ({where})")
    return said


def require_kept(verdicts: Sequence[Verdict], who: str) -> None:
    """Raise BrokenPromiseError with all breaches, unless there are none."""
    lines = [f"  - {verdict.name}: {breach}" for verdict in verdicts for breach in verdict.breaches]
    if lines:
        raise BrokenPromiseError("\n".join([f"{who}:", *lines]))
