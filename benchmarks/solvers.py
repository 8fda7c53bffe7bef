"""Which solver with how many evaluations? python benchmarks/solvers.py RUN [key=value ...]

Scores samples of a trained run, drawn with every solver and 5 to 99 evaluations of the network,
beside Heun's method with 99 and what its score varies by from seed to seed. `--times` adds other
places of the steps. Scores are kept in RUN/solvers: what was stopped goes on, and more solvers,
times or seeds score only what is not there. Writes a table and a picture beside the JSON file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure
from measure import write_result

from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.files import write_text
from rawdiff.flow.solvers import SolverName, num_evaluations
from rawdiff.flow.times import TimesName
from rawdiff.results import score_model
from rawdiff.run import TrainedModel, load_with
from rawdiff.saved.folder import RunFolder

EVALUATIONS = (5, 9, 15, 25, 49, 99)
BEST = ("heun", "linear", 99)  # what all others are compared with


@dataclass(frozen=True)
class Line:
    """One solver at one kind of times: its scores by number of evaluations, one for each seed."""

    solver: SolverName
    times: TimesName
    scores: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.solver if self.times == "linear" else f"{self.solver}, {self.times}"


@dataclass(frozen=True)
class Outcome:
    """All lines, what Heun's method with 99 evaluations reached, and what real data reach."""

    lines: list[Line]
    best: dict[str, list[float]]
    oracle: dict[str, float]
    num_samples: int


def steps_for(solver: SolverName, evaluations: int) -> int:
    """The most steps that take no more evaluations."""
    return max(n for n in range(1, evaluations + 1) if num_evaluations(solver, n) <= evaluations)


def scored(
    folder: RunFolder, model: TrainedModel, metrics: Sequence[str], change: dict[str, Any]
) -> dict[str, Any]:
    """The report of samples drawn so, which is read where the very same was scored before."""
    sample = model.recipe.sample.model_copy(update=change)
    model = replace(model, recipe=model.recipe.model_copy(update={"sample": sample}))
    expected = {
        **model.origin,
        "sample": sample.model_dump(mode="json"),
        "evaluate": model.recipe.evaluate.model_dump(mode="json"),
    }
    name = "_".join(str(value) for value in (*change.values(), *metrics))
    path = folder.path / "solvers" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["origin"] == expected:
            return report
    score_model(folder, model, path, metrics=metrics, say=lambda text: None)
    return json.loads(path.read_text(encoding="utf-8"))


def measure_all(args: argparse.Namespace) -> Outcome:
    folder, model = load_with(args.run, args.overrides, args.step, print)
    oracle: dict[str, float] = {}
    num_samples = 0

    def scores(solver: str, times: str, evaluations: int, seeds: int) -> dict[str, list[float]]:
        nonlocal num_samples
        found: dict[str, list[float]] = {}
        for seed in range(seeds):
            num_steps = steps_for(solver, evaluations)
            change = {"solver": solver, "times": times, "num_steps": num_steps, "seed": seed}
            report = scored(folder, model, args.metric, change)
            for name, row in report["scores"].items():
                found.setdefault(name, []).append(row[GENERATED])
                oracle[name] = row[ORACLE]
            num_samples = next(iter(report["counts"].values()))[GENERATED]
        shown = "  ".join(f"{name} {np.mean(values):.4g}" for name, values in found.items())
        print(f"{solver:9} {times:8} {evaluations:3}  {shown}", flush=True)
        return found

    best = scores(*BEST, args.best_seeds)
    lines = [Line(*names) for names in product(args.solvers, args.times)]
    for line, evaluations in product(lines, args.evaluations):
        line.scores[evaluations] = scores(line.solver, line.times, evaluations, args.seeds)
    return Outcome(lines, best, oracle, num_samples)


def table(outcome: Outcome) -> str:
    """Markdown: of each score the mean over seeds, solvers down, evaluations across."""
    parts = [f"Scores of {outcome.num_samples:,} samples by number of evaluations.\n"]
    numbers = list(outcome.lines[0].scores)
    for score, best in outcome.best.items():
        spread = f"{np.mean(best):.4g} ± {np.std(best, ddof=1):.2g}" if len(best) > 1 else best[0]
        parts.append(
            f"\n`{score}`: {spread} by Heun's method with 99 evaluations (mean and standard "
            f"deviation of {len(best)} seeds), {outcome.oracle[score]:.4g} by real data.\n\n"
            f"| solver | {' | '.join(map(str, numbers))} |\n|---|{'---|' * len(numbers)}\n"
        )
        for line in outcome.lines:
            cells = " | ".join(f"{np.mean(line.scores[n][score]):.4g}" for n in numbers)
            parts.append(f"| {line.name} | {cells} |\n")
    return "".join(parts)


def draw(outcome: Outcome) -> Figure:
    """Each score over evaluations, a line for each solver; a band of what Heun's varies by."""
    names = list(outcome.best)
    figure = Figure(figsize=(6.5 * len(names), 5), layout="constrained")
    solvers = list(dict.fromkeys(line.solver for line in outcome.lines))
    kinds = list(dict.fromkeys(line.times for line in outcome.lines))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for line in outcome.lines:
            numbers = list(line.scores)
            axes.plot(
                numbers,
                [np.mean(line.scores[n][name]) for n in numbers],
                color=f"C{solvers.index(line.solver)}",
                linestyle=("-", "--", ":", "-.")[kinds.index(line.times)],
                marker="o",
                markersize=3,
                label=line.name,
            )
        best = outcome.best[name]
        mean, spread = np.mean(best), np.std(best, ddof=1) if len(best) > 1 else 0
        axes.axhspan(
            mean - 2 * spread, mean + 2 * spread, color="0.85", label="Heun, 99: 2 s.d. of seeds"
        )
        axes.axhline(outcome.oracle[name], color="0.4", linestyle=(0, (1, 2)), label="real data")
        axes.set(xlabel="evaluations of the network", title=name, xscale="log", yscale="log")
        axes.set_xticks(numbers, [str(n) for n in numbers])
        axes.tick_params(axis="x", which="minor", bottom=False)
        axes.xaxis.set_minor_formatter("")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def facts(outcome: Outcome) -> dict[str, Any]:
    return {
        "num_samples": outcome.num_samples,
        "real held-out": outcome.oracle,
        "heun with 99 evaluations, by seed": outcome.best,
        "scores": list(_rows(outcome)),
    }


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    for line in outcome.lines:
        for evaluations, found in line.scores.items():
            steps = steps_for(line.solver, evaluations)
            yield {
                "solver": line.solver,
                "times": line.times,
                "evaluations": evaluations,
                "num_steps": steps,
                **found,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--solvers", nargs="+", choices=get_args(SolverName))
    parser.add_argument("--times", nargs="+", choices=get_args(TimesName), default=["linear"])
    parser.add_argument("--evaluations", nargs="+", type=int, default=EVALUATIONS)
    parser.add_argument("--metric", nargs="+", default=["frechet", "spectrum"])
    parser.add_argument("--seeds", type=int, default=1, help="of each solver")
    parser.add_argument("--best-seeds", type=int, default=5, help="of Heun's with 99 evaluations")
    parser.add_argument("--step", type=int)
    parser.set_defaults(solvers=get_args(SolverName))
    args = parser.parse_intermixed_args()
    outcome = measure_all(args)
    path = write_result(f"solvers_{args.run.name}", facts(outcome))
    write_text(path.with_suffix(".md"), table(outcome))
    draw(outcome).savefig(path.with_suffix(".png"), dpi=80)
    print(f"{path}, and a table and a picture beside it")


if __name__ == "__main__":
    main()
