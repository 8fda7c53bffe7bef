"""All scores in one table: generated samples beside real held-out ones, which are the oracle."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, Evaluator
from rawdiff.files import write_text

GENERATED = "generated"
ORACLE = "real held-out"


@dataclass(frozen=True)
class Report:
    """Scores by name, each {"generated": …, "real held-out": …}, of `num_samples` of both.

    A name is the evaluator's, or `evaluator/key` where it gives more than one. `meanings` says of
    each evaluator what it measures.
    """

    scores: dict[str, dict[str, float]]
    meanings: dict[str, str]
    num_samples: int
    num_reference: int


def evaluate(
    samples: Tensor,
    holdout: Tensor,
    reference: Tensor,
    basis: Basis,
    evaluators: Mapping[str, Evaluator],
) -> Report:
    """Score `samples` [n, C, …] and real `holdout` [h, C, …] against training data [m, C, …].

    All in data units, NaN where missing. The first min(n, h) of both are taken, because scores
    such as the Fréchet distance depend on the number. Raises UserError if shapes differ, a set is
    empty, samples are not finite, or an evaluator gives a score that is not.
    """
    num_samples = min(len(samples), len(holdout))
    samples, holdout = samples[:num_samples], holdout[:num_samples]
    _check(samples, holdout, reference)
    scores: dict[str, dict[str, float]] = {}
    for name, evaluator in evaluators.items():
        for column, x in ((GENERATED, samples), (ORACLE, holdout)):
            for key, score in evaluator.score(x, reference, basis).items():
                full_name = f"{name}/{key}" if key else name
                if not math.isfinite(score):
                    raise UserError(
                        f"Evaluator `{name}` gives {score} as `{full_name}` of {column} samples. "
                        "A score must be finite: mend that evaluator, or leave it out."
                    )
                scores.setdefault(full_name, {})[column] = score
    meanings = {name: _meaning(evaluator) for name, evaluator in evaluators.items()}
    return Report(scores, meanings, num_samples, len(reference))


def _check(samples: Tensor, holdout: Tensor, reference: Tensor) -> None:
    shapes = {
        "generated": tuple(samples.shape[1:]),
        "held-out": tuple(holdout.shape[1:]),
        "training": tuple(reference.shape[1:]),
    }
    if len(set(shapes.values())) > 1:
        raise UserError(
            f"Samples to compare must have one shape; found {shapes}. "
            "Score the samples against the data that the model was trained on."
        )
    if not len(samples) or not len(reference):
        raise UserError(
            f"Nothing to score: {len(samples)} generated and held-out samples, {len(reference)} "
            "training samples. Each set needs at least one, better 1,000."
        )
    always_there = ~reference.isnan().any(0)
    broken = samples.isinf() | (samples.isnan() & always_there)
    if num_broken := int(broken.flatten(1).any(1).sum()):
        raise UserError(
            f"{num_broken} of {len(samples)} generated samples hold infinite values, or NaN where "
            "training data always have a value: the model has diverged. Look at its loss, and "
            "draw from an earlier checkpoint or from an EMA."
        )


def _meaning(evaluator: Evaluator) -> str:
    """The first line of the evaluator's docstring."""
    return (inspect.getdoc(type(evaluator)) or "").partition("\n")[0].rstrip(".")


def write(report: Report, path: Path, origin: dict[str, Any]) -> None:
    """Write the report as JSON with where the samples come from; whole or not at all."""
    content = asdict(report) | {"origin": origin}
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def table(report: Report) -> Table:
    """The report for the terminal: each score beside the oracle's, and what it measures."""
    result = Table(
        title=f"{report.num_samples:,} samples against {report.num_reference:,} training samples",
        caption="Real held-out data are the oracle: their scores are what a perfect model reaches.",
    )
    result.add_column("score", no_wrap=True)
    result.add_column(GENERATED, justify="right")
    result.add_column(ORACLE, justify="right")
    result.add_column("meaning")
    for name, row in report.scores.items():
        numbers = (f"{row[column]:.4g}" if column in row else "–" for column in (GENERATED, ORACLE))
        result.add_row(name, *numbers, report.meanings.get(name, ""))
    return result
