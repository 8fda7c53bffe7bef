"""Can the spread of a trained model's draws be trusted? python benchmarks/calibration.py RUN

`rawdiff eval RUN --calibration` for several observations, amounts of noise and methods: how many of
the held-out samples' hidden values lie in intervals between draws that should hold 50 and 90 %.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import write_result

from rawdiff.run import load
from rawdiff.scoring.calibrate import calibrate_run

OPERATORS = {"half of the values": "mask", "means over 2 × 2": "{name: coarsen, factor: 2}"}
NOISES = (0.03, 0.3)  # of the data's spread
METHODS = ("mmps", "dps", "replacement")
EXACT = "replacement"  # takes no noise, and masks alone


def cases(spread: float) -> dict[tuple[str, str, str], list[str]]:
    """Keys of `sample.observe` by what is observed, noise over the data's spread, and method."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for what, operator in OPERATORS.items():
        for method in METHODS:
            keys = [f"sample.observe.operator={operator}", f"sample.observe.method={method}"]
            if method == EXACT:
                if operator == "mask":
                    found[what, "none", method] = keys
                continue
            for noise in NOISES:
                noisy = [*keys, f"sample.observe.noise_std={noise * spread:.4g}"]
                found[what, str(noise), method] = noisy
    return found


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| observed | noise / spread | method | 50 % hold | 90 % hold | p | CRPS |"]
    lines.append("|---" * 7 + "|")
    for row in rows:
        held = [f"{of['held']:.2f} ± {of['standard_error']:.2f}" for of in row["coverage"].values()]
        p = min(of["p_value"] for of in row["ranks"].values())
        words = [row["observed"], row["noise"], f"`{row['method']}`", *held, f"{p:.2g}"]
        lines.append(f"| {' | '.join(words)} | {row['crps']['mean']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("overrides", nargs="*", help="of its recipe, as sample.num_steps=50")
    parser.add_argument("--truths", type=int, default=64)
    parser.add_argument("--members", type=int, default=19)
    args = parser.parse_args()
    spread = float(load(args.run).sampler.patcher.statistics.x.std.mean())
    rows: list[dict[str, Any]] = []
    for (what, noise, method), keys in cases(spread).items():
        found = calibrate_run(
            args.run,
            [*args.overrides, *keys],
            num_members=args.members,
            num_truths=args.truths,
            say=lambda line: None,
        )
        rows.append({"observed": what, "noise": noise, "method": method} | asdict(found))
        print(what, noise, method, found.verdict, flush=True)
        path = write_result(f"calibration_{args.run.name}", {"rows": rows})
    print(f"{markdown(rows)}\n{path}")


if __name__ == "__main__":
    main()
