"""Guidance with or without its part along x? python benchmarks/guidance.py RUN [key=value ...]

Scores samples of a trained run with labels, without guidance and at several scales of it, with each
`cfg_parallel` and with several seeds. Scores are kept in RUN/solvers: what was stopped goes on.
Writes a table and a picture beside the JSON file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from measure import write_result
from solvers import scored

from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.files import write_text
from rawdiff.run import load_with

Scores: TypeAlias = dict[float, dict[float, dict[str, list[float]]]]
"""By `cfg_parallel`, scale and score: one value for each seed."""


def measure_all(args: argparse.Namespace) -> tuple[Scores, dict[str, Any]]:
    """All scores, and what real data reach with the numbers of samples."""
    folder, model = load_with(args.run, args.overrides, args.step, print)
    found: Scores = {parallel: {} for parallel in args.parallel}
    real: dict[str, Any] = {}

    def score(scale: float, parallel: float, seed: int) -> dict[str, float]:
        change = {"cfg_scale": scale, "cfg_parallel": parallel, "seed": seed}
        report = scored(folder, model, args.metric, change)
        real["real held-out"] = {name: row[ORACLE] for name, row in report["scores"].items()}
        real["counts"] = report["counts"]
        row = {name: values[GENERATED] for name, values in report["scores"].items()}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        print(f"seed {seed}  scale {scale}  parallel {parallel}  {shown}", flush=True)
        return row

    for seed in range(args.seeds):
        for scale in (1.0, *args.scales):
            for parallel in args.parallel:
                same = scale == 1  # nothing is guided
                row = score(scale, 1.0 if same else parallel, seed)
                for name, value in row.items():
                    found[parallel].setdefault(scale, {}).setdefault(name, []).append(value)
    return found, real


def _cell(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.1g}" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{spread}"


def table(found: Scores, real: dict[str, Any]) -> str:
    """Markdown: of each score mean and standard deviation over seeds, scales across."""
    parts = ["Scores by scale of guidance, mean and standard deviation over seeds.\n"]
    first = next(iter(found.values()))
    scales = list(first)
    for name in first[1.0]:
        parts.append(
            f"\n`{name}`: {real['real held-out'][name]:.4g} by real data.\n\n"
            f"| `cfg_parallel` | {' | '.join(map(str, scales))} |\n|---|{'---|' * len(scales)}\n"
        )
        for parallel, rows in found.items():
            parts.append(f"| {parallel} | {' | '.join(_cell(rows[s][name]) for s in scales)} |\n")
    return "".join(parts)


def draw(found: Scores, real: dict[str, Any]) -> Figure:
    """Each score over the scale of guidance, a line for each `cfg_parallel`; bars are of seeds."""
    names = list(next(iter(found.values()))[1.0])
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for parallel, rows in found.items():
            values = [row[name] for row in rows.values()]
            spread = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values]
            means = [np.mean(v) for v in values]
            axes.errorbar(
                list(rows),
                means,
                spread,
                marker="o",
                markersize=3,
                label=f"cfg_parallel {parallel}",
            )
        oracle = real["real held-out"][name]
        axes.axhline(oracle, color="0.4", linestyle=(0, (1, 2)), label="real data")
        axes.set(xlabel="scale of guidance", title=name)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--scales", nargs="+", type=float, default=[1.5, 3.0, 6.0])
    parser.add_argument("--parallel", nargs="+", type=float, default=[1.0, 0.0])
    parser.add_argument("--metric", nargs="+", default=["frechet", "spectrum", "wasserstein"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--step", type=int)
    args = parser.parse_intermixed_args()
    found, real = measure_all(args)
    path = write_result(f"guidance_{args.run.name}", {**real, "scores": found})
    write_text(path.with_suffix(".md"), table(found, real))
    draw(found, real).savefig(path.with_suffix(".png"), dpi=80)
    print(f"{path}, and a table and a picture beside it")


if __name__ == "__main__":
    main()
