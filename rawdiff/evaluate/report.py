"""All scores in one table: generated samples beside real held-out ones, which are the oracle."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, Evaluator, Features, Goal, Scorer
from rawdiff.files import write_text

GENERATED = "generated"
ORACLE = "real held-out"
REFERENCE = "reference"


@dataclass(frozen=True)
class Report:
    """Scores by name, each {"generated": …, "real held-out": …}; the second may be absent.

    Other columns may stand beside, such as forecasts that need no model.

    A name is the evaluator's, or `evaluator/key` where it gives more than one. `goals` says of
    each score what is better. Of each evaluator, `meanings` says what it measures, and `counts`
    how many samples were "generated", "real held-out" and "reference", and `references` names one
    that is not the training data.
    """

    scores: dict[str, dict[str, float]]
    goals: dict[str, Goal]
    meanings: dict[str, str]
    counts: dict[str, dict[str, int]]
    references: dict[str, str] = field(default_factory=dict)


def join(reports: Iterable[Report]) -> Report:
    """One report of several, in their order."""
    whole = Report({}, {}, {}, {})
    for report in reports:
        for name, part in vars(report).items():
            getattr(whole, name).update(part)
    return whole


def report_of(
    name: str,
    evaluator: Scorer,
    columns: Mapping[str, Mapping[str, float]],
    counts: dict[str, int],
    reference: str = "",
) -> Report:
    """What one evaluator says, from its scores in each column. UserError unless all are finite."""
    scores: dict[str, dict[str, float]] = {}
    goals: dict[str, Goal] = {}
    for column, given in columns.items():
        for key, score in given.items():
            full_name = f"{name}/{key}" if key else name
            if not math.isfinite(score):
                raise UserError(
                    f"Evaluator `{name}` gives {score} as `{full_name}` of {column} samples. "
                    "A score must be finite: mend that evaluator, or leave it out."
                )
            scores.setdefault(full_name, {})[column] = score
            goals[full_name] = evaluator.goal(key)
    references = {name: reference} if reference else {}
    return Report(scores, goals, {name: _meaning(evaluator)}, {name: counts}, references)


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
    sets = {GENERATED: samples, ORACLE: holdout}
    counts = {GENERATED: num_samples, ORACLE: num_samples, REFERENCE: len(reference)}

    def score(name: str, evaluator: Evaluator) -> Report:
        columns = {column: evaluator.score(x, reference, basis) for column, x in sets.items()}
        return report_of(name, evaluator, columns, dict(counts))

    return join(score(name, evaluator) for name, evaluator in evaluators.items())


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
    require_sound(samples, always_there)


def require_sound(samples: Tensor, always_there: Tensor) -> None:
    """UserError if samples [n, C, …] are infinite, or NaN where data always have a value [C, …]."""
    broken = samples.isinf() | (samples.isnan() & always_there)
    if num_broken := int(broken.flatten(1).any(1).sum()):
        raise UserError(
            f"{num_broken} of {len(samples)} generated samples hold infinite values, or NaN where "
            "training data always have a value: the model has diverged. Look at its loss, and "
            "draw from an earlier checkpoint or from an EMA."
        )


def require_rows(evaluator: Scorer, features: Features, num_samples: int) -> None:
    """UserError unless there are features, each with one row for each sample of the batch."""
    name, cure = type(evaluator).__name__, "return one row for each sample of the batch, [n, …]"
    if not features:
        raise UserError(f"`{name}.features` returned nothing; {cure}, by name.")
    for key, values in features.items():
        if values.dim() == 0 or len(values) != num_samples:
            rows = f"{len(values)} rows" if values.dim() else "no rows"
            raise UserError(
                f"`{name}.features` returned `{key}` with {rows} {list(values.shape)} for a batch "
                f"of {num_samples} samples; {cure}. What is of all samples at once, such as a "
                "mean, belongs in its `score`."
            )


def _meaning(evaluator: Scorer) -> str:
    """The first line of the evaluator's docstring."""
    return (inspect.getdoc(type(evaluator)) or "").partition("\n")[0].rstrip(".")


def write(report: Report, path: Path, origin: dict[str, Any]) -> None:
    """Write the report as JSON with where the samples come from; whole or not at all."""
    content = asdict(report) | {"origin": origin}
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def table(report: Report) -> Table:
    """The report for the terminal: each score beside the oracle's, and what it measures.

    The numbers of samples stand in the title if they are all alike, else beside each score.
    """
    alike = (
        len({tuple(sorted(counts.items())) for counts in report.counts.values()}) == 1
        and len({report.references.get(name) for name in report.counts}) == 1
    )
    counts = next(iter(report.counts.values()), {})
    even = alike and counts.get(ORACLE, counts.get(GENERATED)) == counts.get(GENERATED)
    title = f"{counts.get(GENERATED, 0):,} samples"
    named = set(report.references.values())
    if num_reference := counts.get(REFERENCE):
        title += f" against {num_reference:,} real ones"
        title += f" of {named.pop()}" if named else ""
    elif named:
        title += f" against {named.pop()}"
    caption = "Real held-out data are the oracle: their scores are what a perfect model reaches."
    if not any(ORACLE in row for row in report.scores.values()):
        caption = "No real held-out data stand beside: what a perfect model reaches is not known."
        if _other_columns(report):
            caption = "Real held-out data are the truth; the other columns need no model."
    if not even:
        caption += " A Fréchet distance falls as its n grows: compare it at equal n only."
    result = Table(title=title if even else None, caption=caption)
    result.add_column("score", no_wrap=True)
    columns = [GENERATED, ORACLE, *_other_columns(report)]
    if not any(ORACLE in row for row in report.scores.values()):
        columns.remove(ORACLE)
    for column in columns:
        result.add_column(column, justify="right")
    if not even:
        result.add_column("n, n held-out, n reference", justify="right")
    result.add_column("meaning")
    explained: set[str] = set()
    for name, row in report.scores.items():
        evaluator = name.partition("/")[0]
        numbers = [f"{row[column]:.4g}" if column in row else "–" for column in columns]
        if not even:
            own = report.references.get(evaluator, "")
            numbers.append(_numbers(report.counts.get(evaluator, {}), own))
        meaning = "" if evaluator in explained else report.meanings.get(evaluator, "")
        explained.add(evaluator)
        result.add_row(name, *numbers, meaning)
    return result


def _other_columns(report: Report) -> list[str]:
    """What stands beside generated and real samples, such as forecasts that need no model."""
    names = (name for row in report.scores.values() for name in row)
    return [name for name in dict.fromkeys(names) if name not in (GENERATED, ORACLE)]


def _numbers(counts: Mapping[str, int], reference: str) -> str:
    """ "50,000, 10,000, 1,281,167"; a dash where there is none, and the reference's own name."""
    columns = (GENERATED, ORACLE, REFERENCE)
    texts = [f"{counts[column]:,}" if counts.get(column) else "–" for column in columns]
    if reference:
        texts[-1] = f"{texts[-1]} of {reference}" if counts.get(REFERENCE) else reference
    return ", ".join(texts)
