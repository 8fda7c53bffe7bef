"""Begin a study or continue it: the same command does both."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rawdiff.errors import UserError
from rawdiff.files import locked, write_text
from rawdiff.recipe_file import find_recipe
from rawdiff.study.board import Board
from rawdiff.study.cells import Cell, GridKey, make_cells, parse_grid
from rawdiff.study.plan import Planned, look, remarks
from rawdiff.study.runner import Ending, Environment, Runner, places
from rawdiff.study.stages import is_finished, is_finished_run, read_result
from rawdiff.study.table import Outcome, number, score_text, write_tables
from rawdiff.train.stopping import StoppedError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """A validated study: its grid, its cells, and the command that gives it again.

    `where` has the environment of each of the cells that run at a time.
    """

    grid: tuple[GridKey, ...]
    planned: list[Planned]
    remarks: list[str]
    out: Path
    metric: str | None
    command: list[str]
    where: list[Environment]

    @property
    def cells(self) -> list[Cell]:
        return [one.cell for one in self.planned]

    def describe(self) -> list[str]:
        """The number of cells, a line for each, and what else lies in the study's folder."""
        lines = [f"{len(self.planned)} cells in {self.out}:"]
        for one in self.planned:
            train = one.cell.recipe.train
            state = "; finished already" if is_finished(one.cell) else ""
            lines.append(
                f"  {one.cell}: {one.num_parameters / 1e6:,.2f} M parameters, {one.num_patches} "
                f"patches of {one.patch_dim} values, {train.num_steps:,} steps of "
                f"{train.batch_size} samples{state}"
            )
        return lines + self.remarks + self._left_out()

    def _left_out(self) -> list[str]:
        """A line that says how many finished cells the table does not show, if there are any."""
        recipes = (self.out / "cells").glob("*.yaml")
        names = {cell.name for cell in self.cells}
        num = sum(is_finished_run(path) for path in recipes if path.stem not in names)
        if not num:
            return []
        return [
            f"Finished cells of other grids in {self.out / 'cells'}, not in this table: {num}. The "
            "command with their grid writes their table again; `--out` gives this one a folder of "
            "its own."
        ]


def plan_study(
    recipe: str | Path,
    grid: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    metric: str | None = None,
    parallel: int | None = None,
) -> Study:
    """Validate all cells, open their data and look at what is there; nothing is written.

    `grid` holds arguments such as `flow.loss=x,v`. Raises UserError that names the cell.
    """
    keys = parse_grid(grid)
    target = Path("studies") / find_recipe(recipe).stem if out is None else out
    cells = make_cells(recipe, keys, overrides, target)
    command = ["rawdiff", "study", str(recipe)]
    for text in grid:
        command += ["--grid", text]
    command += [] if metric is None else ["--metric", metric]
    command += ["--out", str(target), *overrides]
    where = places(cells, parallel)
    planned = look(cells, metric)
    return Study(keys, planned, remarks(keys, cells), target, metric, command, where)


def run_study(study: Study, *, strict: bool = False, say: Say = print) -> Path:
    """Train, sample and score all cells that are not finished; returns the study's folder.

    Tables and picture are written at the beginning and after each cell. A cell that fails is
    recorded, and the others go on. Raises UserError at the end if all cells failed or, if
    `strict`, any did; StoppedError where the same command continues.
    """
    where = study.where
    try:
        (study.out / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The study's folder {study.out} cannot be made: {error}.") from error
    with locked(study.out) as lock:
        _describe(study)
        left = [cell for cell in study.cells if not is_finished(cell)]
        progress = _Progress(study, say, len(left), len(where), failures={})
        progress.write()
        if len(left) < len(study.cells):
            say(f"{len(study.cells) - len(left)} of them are finished already.")
        stopped = _run(progress, left, where, lock)
    if stopped:
        say(f"Stopped by {stopped}; the same command continues. So far: {study.out / 'table.md'}")
        raise StoppedError
    outcome = progress.outcome()
    if outcome.metric is None and (names := outcome.score_names):
        say(f"No cell has the score `{study.metric}`; there are: {', '.join(names)}.")
    _require_success(study, progress.failures, strict)
    return study.out


def _run(progress: _Progress, left: list[Cell], where: list[Environment], lock: int) -> str | None:
    if not left:
        return None
    runner = Runner(where[: len(left)], lock)
    return runner.run(left, begins=progress.begins, ended=progress.ended)


def _describe(study: Study) -> None:
    """What was asked for, as data."""
    content = {
        "command": shlex.join(study.command),
        "grid": {key.key: key.values for key in study.grid},
        "cells": {cell.name: cell.values for cell in study.cells},
    }
    write_text(study.out / "study.json", json.dumps(content, indent=1, default=str) + "\n")


def _require_success(study: Study, failures: dict[str, str], strict: bool) -> None:
    if failures and (strict or len(failures) == len(study.cells)):
        first = next(cell for cell in study.cells if cell.name in failures)
        number = "All" if len(failures) == len(study.cells) else f"{len(failures)} of the"
        raise UserError(
            f"{number} cells failed. {first}: {failures[first.name]}\n"
            f"Look at {first.beside_run('.log')}; the same command tries failed cells again."
        )


@dataclass
class _Progress:
    """Tells how far a study is, and keeps its tables and picture up to date."""

    study: Study
    say: Say
    num_left: int
    num_places: int
    failures: dict[str, str]

    def __post_init__(self) -> None:
        self.board = Board(self.study.planned)
        self.num_ended, self.seconds = 0, 0.0
        self.num_finished_before = len(self.study.cells) - self.num_left
        self.num_begun = 0

    def begins(self, cell: Cell) -> None:
        self.num_begun += 1
        place = self.num_finished_before + self.num_begun
        log = cell.beside_run(".log")
        self.say(f"[{place}/{len(self.study.cells)}] {cell} begins; its output: {log}")

    def ended(self, ending: Ending) -> None:
        """Record how a cell ended, say it, and write tables and picture."""
        self.num_ended += 1
        self.seconds += ending.seconds
        if ending.failure is not None:
            self.failures[ending.cell.name] = ending.failure
        outcome = self.write()
        result = outcome.results[[c.name for c in outcome.cells].index(ending.cell.name)]
        took = f"{ending.cell} ended after {_clock(ending.seconds)}"
        if ending.failure is not None:
            self.say(f"{took}: failed. {ending.failure}")
        else:
            metric, score = outcome.metric, "finished"
            if metric is not None:
                score = f"{metric} {score_text(result, metric)}"
                if (real := outcome.oracle(metric, [result])) is not None:
                    score += f" (real held-out {number(real)})"
            self.say(f"{took}: {score}{self._time_left()}")

    def _time_left(self) -> str:
        """At the mean time of the cells that ended in this call."""
        left = self.num_left - self.num_ended
        if not left:
            return ""
        seconds = self.seconds / self.num_ended * left / min(self.num_places, left)
        return f"; about {_clock(seconds)} left for {left}"

    def outcome(self) -> Outcome:
        """What there is so far."""
        study = self.study
        results = [read_result(cell, self.failures.get(cell.name)) for cell in study.cells]
        return Outcome(study.grid, study.cells, results, study.command, study.metric)

    def write(self) -> Outcome:
        """Tables and picture of what there is so far, which is returned."""
        study, outcome = self.study, self.outcome()
        write_tables(outcome, study.out)
        self.board.write(outcome, study.out / "picture.png")
        return outcome


def _clock(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
