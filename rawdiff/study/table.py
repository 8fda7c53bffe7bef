"""The table of a study: CSV with full precision, Markdown to read."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.files import write_text
from rawdiff.saved.folder import RunFolder
from rawdiff.study.cells import Cell, GridKey, shown
from rawdiff.study.stages import FINISHED, NOT_BEGUN, Result

NOTHING = "–"


@dataclass(frozen=True)
class Outcome:
    """What is known of all cells so far, in the order of the grid."""

    grid: tuple[GridKey, ...]
    cells: Sequence[Cell]
    results: Sequence[Result]
    command: Sequence[str]
    chosen_metric: str | None

    @property
    def score_names(self) -> list[str]:
        """Of all cells, each once, in the order of the reports."""
        return list(dict.fromkeys(name for result in self.results for name in result.scores))

    @property
    def metric(self) -> str | None:
        """The score that picture and cross table show; None as long as there is none."""
        names = self.score_names
        if self.chosen_metric is None:
            return names[0] if names else None
        begin = f"{self.chosen_metric}/"
        return next((n for n in names if n == self.chosen_metric or n.startswith(begin)), None)

    def oracle(self, name: str, among: Sequence[Result] | None = None) -> float | None:
        """The score of real held-out data, if it is the same for all cells, or all of some."""
        results = self.results if among is None else among
        found = {scores[ORACLE] for r in results if ORACLE in (scores := score_of(r, name))}
        return found.pop() if len(found) == 1 else None

    def has_own_oracles(self, name: str) -> bool:
        """Whether it differs between cells, which may differ in data or patches."""
        return self.oracle(name) is None and any(ORACLE in score_of(r, name) for r in self.results)


def score_of(result: Result, name: str) -> dict[str, float]:
    return result.scores.get(name, {})


def write_tables(outcome: Outcome, out: Path) -> None:
    """`table.csv` and `table.md`, each whole or as it was."""
    header, rows = table(outcome)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    write_text(out / "table.csv", text.getvalue())
    write_text(out / "table.md", _markdown(outcome, header, rows))


def table(outcome: Outcome) -> tuple[list[str], list[list[Any]]]:
    """Names of the columns, and a row for each cell and one for real held-out data.

    Numbers are as they were measured; None where there is none (yet).
    """
    keys = [key.key for key in outcome.grid]
    header = [*keys, "steps", "training loss"]
    for name in outcome.score_names:
        header += [name, f"{name}, {ORACLE}"] if outcome.has_own_oracles(name) else [name]
    header += ["training seconds", "status"]
    rows: list[list[Any]] = []
    for cell, result in zip(outcome.cells, outcome.results, strict=True):
        row: list[Any] = [shown(value) for value in cell.values.values()]
        row += [result.steps, result.training_loss]
        for name in outcome.score_names:
            scores = score_of(result, name)
            row.append(scores.get(GENERATED))
            row += [scores.get(ORACLE)] if outcome.has_own_oracles(name) else []
        rows.append([*row, result.seconds, result.status])
    oracle: list[Any] = [ORACLE, *[None] * (len(keys) - 1), None, None]
    for name in outcome.score_names:
        oracle += [outcome.oracle(name), *([None] if outcome.has_own_oracles(name) else [])]
    return header, [*rows, [*oracle, None, None]]


def _markdown(outcome: Outcome, header: list[str], rows: list[list[Any]]) -> str:
    """The tables with what they come from: command, machines, recipe."""
    parts = [
        f"# Study: {', '.join(key.key for key in outcome.grid)}",
        f"```\n{shlex.join(outcome.command)}\n```",
        *_places(outcome.cells),
        _shared(outcome),
    ]
    if len(outcome.grid) == 2 and outcome.metric is not None:
        parts += [_cross_table(outcome, outcome.metric)]
    parts += [
        _grid_of_text(header, rows, num_left=len(outcome.grid)),
        "Training loss: mean of the last window of the log. Losses in different spaces "
        "(`flow.loss`) or of other data do not compare; scores do. The row of real held-out data "
        "is the oracle: what a perfect model reaches.",
    ]
    return "\n\n".join(parts) + "\n"


def _shared(outcome: Outcome) -> str:
    """The recipe, and what all cells have in common."""
    recipes = [cell.recipe for cell in outcome.cells]
    facts = {
        "seed {}": {recipe.seed for recipe in recipes},
        "{} steps": {recipe.train.num_steps for recipe in recipes},
        "batches of {}": {recipe.train.batch_size for recipe in recipes},
    }
    same = [text.format(*values) for text, values in facts.items() if len(values) == 1]
    return f"Recipe `{outcome.command[2]}`; the same for all cells: {', '.join(same)}."


def _places(cells: Sequence[Cell]) -> list[str]:
    """A line for each machine and version that cells were trained on."""
    lines = []
    for cell in cells:
        facts = RunFolder(cell.run).environment()
        if not facts:
            continue
        machine = facts["gpu"] or f"{facts['processor']}, {facts['num_threads']} threads"
        commit = f", commit {facts['commit']}" if facts["commit"] else ""
        lines.append(
            f"Trained on {machine} ({facts['system']}) with rawdiff {facts['rawdiff']}{commit}, "
            f"torch {facts['torch']}, Python {facts['python']}."
        )
    return list(dict.fromkeys(lines))


def _cross_table(outcome: Outcome, metric: str) -> str:
    """The chosen score: columns are the first key's values, rows the second's."""
    first, second = outcome.grid
    scores = {
        (shown(cell.values[first.key]), shown(cell.values[second.key])): score_text(result, metric)
        for cell, result in zip(outcome.cells, outcome.results, strict=True)
    }
    header = [f"`{metric}`", *(f"{first.key} = {shown(value)}" for value in first.values)]
    rows: list[list[Any]] = [
        [
            f"{second.key} = {shown(value)}",
            *(scores[shown(other), shown(value)] for other in first.values),
        ]
        for value in second.values
    ]
    oracle = outcome.oracle(metric)
    below = "" if oracle is None else f"\n\nReal held-out data: {number(oracle)}."
    return _grid_of_text(header, rows, num_left=1) + below


def score_text(result: Result, metric: str | None) -> str:
    """The score as text, or why there is none."""
    if metric is not None and GENERATED in score_of(result, metric):
        return number(result.scores[metric][GENERATED])
    state = result.status.partition(":")[0]
    return NOTHING if state in (FINISHED, NOT_BEGUN) else state


def _grid_of_text(header: list[str], rows: list[list[Any]], *, num_left: int) -> str:
    """A Markdown table; the first columns to the left, numbers to the right."""
    ends = ["---"] * num_left + ["---:"] * (len(header) - num_left)
    lines = [[_text(value) for value in header], ends, *([_text(v) for v in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    text = number(value) if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def number(value: float) -> str:
    """Four digits that count, and no power of ten for what is merely large."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
