"""The contract of data that go on: what is drawn now is known when the next is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from rawdiff.conditions import Conditions
from rawdiff.data.dataset import Dataset


@dataclass(frozen=True)
class Question:
    """What is to be drawn: `index` [M], the number of each member's noise, and conditions."""

    index: Tensor
    conditions: Conditions


Draw: TypeAlias = Callable[[Question], Tensor]
"""The answer to a question: samples [M, C, …] in data units."""


@dataclass(frozen=True)
class Rollout:
    """Some members of an ensemble, from a known state on.

    `questions` asks for one draw after another, and is sent each answer before it asks again.
    """

    num_draws: int
    questions: Generator[Question, Tensor, None]

    def run(self, draw: Draw, drawn: Callable[[], None] = lambda: None) -> None:
        """Ask to the end; `drawn` is called after each answer was taken."""
        question = next(self.questions, None)
        while question is not None:
            try:
                question = self.questions.send(draw(question))
            except StopIteration:
                question = None
            drawn()


@dataclass(frozen=True)
class Request:
    """Forecasts of `num_steps` steps from each init (as a user writes it), with `num_members`.

    None: as many steps as the data think right.
    """

    inits: tuple[str, ...]
    num_steps: int | None
    num_members: int


class Series(Dataset, ABC):
    """A dataset whose samples can be continued, each from those before it."""

    @abstractmethod
    def begin_forecasts(self, request: Request, file: Path, origin: dict[str, Any]) -> None:
        """Make `file`, or find what an earlier call left there, to go on.

        One process calls it before all call `forecasts`. `origin` is plain data for JSON: all that
        forecasts depend on. UserError if the request cannot be met, or if the file holds other
        forecasts.
        """

    @abstractmethod
    def forecasts(self, request: Request, file: Path, batch_size: int) -> Sequence[Rollout]:
        """What is still missing in `file`, in parts of at most `batch_size` members.

        A part writes each answer before it asks again, so that what is killed can go on.
        """

    @abstractmethod
    def end_forecasts(self, request: Request, file: Path) -> None:
        """Mark the file as finished; one process calls it when all is written."""

    @property
    @abstractmethod
    def forecast_file(self) -> str:
        """The usual name of the file, such as `forecast.zarr`."""
