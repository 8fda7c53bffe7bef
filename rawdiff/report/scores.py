"""Scores of generated samples as bars beside those of real held-out data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rawdiff.evaluate.report import GENERATED, ORACLE, REFERENCE
from rawdiff.report.record import Record, Scores

GOALS = {
    "low": "lower is better",
    "high": "higher is better",
    "oracle": "as near to real data as can be",
}
CLOSE = 1e-12


class Bar(NamedTuple):
    """A number, and its length in per cent of the longest of its score."""

    column: str
    text: str
    length: float
    kind: str


@dataclass(frozen=True)
class Score:
    """A score by name: what it measures, and a bar for each column."""

    name: str
    meaning: str
    goal: str
    bars: list[Bar]
    verdict: str


@dataclass(frozen=True)
class Board:
    """All scores of one call of `rawdiff eval`, of which samples and how many."""

    title: str
    counts: str
    scores: list[Score]


def boards(record: Record) -> list[Board]:
    return [Board(one.title, _counts(one), _scores(one)) for one in record.scores]


def _scores(one: Scores) -> list[Score]:
    report, explained, found = one.report, set[str](), []
    for name, row in report.scores.items():
        evaluator = name.partition("/")[0]
        meaning = "" if evaluator in explained else report.meanings.get(evaluator, "")
        explained.add(evaluator)
        goal = GOALS.get(report.goals.get(name, ""), "")
        goal = "" if goal in meaning else goal
        found.append(Score(name, meaning, goal, _bars(row), _verdict(row, goal)))
    return found


def _bars(row: Mapping[str, float]) -> list[Bar]:
    longest = max((abs(value) for value in row.values()), default=0.0)
    kinds = {GENERATED: "generated", ORACLE: "real"}
    return [
        Bar(
            column,
            f"{value:.4g}",
            100 * abs(value) / longest if longest > CLOSE else 0.0,
            kinds.get(column, "other"),
        )
        for column, value in row.items()
    ]


def _verdict(row: Mapping[str, float], goal: str) -> str:
    """ "lower is better; 3.1 times that of real data", where there is such a ratio."""
    beside = ""
    if GENERATED in row and ORACLE in row:
        generated, real = row[GENERATED], row[ORACLE]
        if generated == real:
            beside = "equal to real data"
        elif generated > CLOSE and real > CLOSE:
            beside = f"{generated / real:.3g} times that of real data"
    return "; ".join(filter(None, (goal, beside)))


def _counts(one: Scores) -> str:
    """ "270 generated, 270 real held-out, 1,527 reference", where that is the same for all."""
    counts = {tuple(sorted(row.items())) for row in one.report.counts.values()}
    if len(counts) != 1:
        return ""
    row = dict(counts.pop())
    shown = [f"{row[name]:,} {name}" for name in (GENERATED, ORACLE, REFERENCE) if row.get(name)]
    return ", ".join(shown) + " samples"
