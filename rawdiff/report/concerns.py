"""All concerns that a run's own files give reason for, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.report.record import Record
from rawdiff.warn.averages import average, tuned_average
from rawdiff.warn.concern import Concern
from rawdiff.warn.data import noise_scale, spread
from rawdiff.warn.loss import loss_shares, one_bin
from rawdiff.warn.samples import growing_seams, memorization, seams

Add: TypeAlias = Callable[[str, Concern | None, str], None]
"""add(name, concern, why it could not be looked at)"""


AllScores: TypeAlias = Mapping[str, Mapping[str, float]]


class Judgement(NamedTuple):
    """Concerns; what was looked at and is well; and what was not looked at, with the reason."""

    concerns: list[Concern]
    well: list[str]
    unknown: list[str]


def judge(record: Record) -> Judgement:
    """Everything that is known, whatever the run left."""
    found = Judgement([], [], [])

    def add(name: str, concern: Concern | None, missing: str) -> None:
        if concern is not None:
            found.concerns.append(concern)
        elif missing:
            found.unknown.append(f"{name}: {missing}")
        else:
            found.well.append(name)

    recipe, lines = record.recipe, record.lines
    is_measured = record.statistics.measured is not None
    by_measuring = recipe.standardization.mode == "statistics"
    add(
        "spread of the data",
        spread(record.statistics, record.info),
        "" if is_measured or by_measuring else "the run kept no measured spread",
    )
    add("noise scale", noise_scale(recipe.flow, record.info), "")
    concern = average(recipe, recipe.train.num_steps)
    if concern is None and record.tuned is not None:
        concern = tuned_average(record.tried, record.tuned.metric, recipe.train.num_steps)
    add("average of the weights", concern, "")
    add(
        "loss by noise level",
        one_bin(lines, recipe.flow, recipe.train.num_steps),
        "" if loss_shares(lines, recipe.flow) else "the log is too short",
    )
    _judge_samples(record, add)
    return found


def _judge_samples(record: Record, add: Add) -> None:
    scores = {
        name: row for one in reversed(record.scores) for name, row in one.report.scores.items()
    }
    unscored = "no score of it; `rawdiff eval RUN` gives one"
    looked = _both(scores, "seam") or len(record.seams) > 1
    add("patch seams", growing_seams(record.seams) or _seams(scores), "" if looked else unscored)
    add("memorization", _memorization(scores), "" if _both(scores, "neighbours") else unscored)


def score_concerns(scores: AllScores) -> list[Concern]:
    """What scores by name, each {"generated": …, "real held-out": …}, give reason for."""
    return [one for one in (_seams(scores), _memorization(scores)) if one is not None]


def _seams(scores: AllScores) -> Concern | None:
    both = _both(scores, "seam")
    return seams(*both) if both else None


def _memorization(scores: AllScores) -> Concern | None:
    near, copies = _both(scores, "neighbours"), _both(scores, "neighbours/copies")
    return memorization(*near, *copies) if near and copies else None


def _both(scores: AllScores, name: str) -> tuple[float, float] | None:
    """A score of generated and of real held-out samples; None unless both are there."""
    row = scores.get(name, {})
    return (row[GENERATED], row[ORACLE]) if GENERATED in row and ORACLE in row else None
