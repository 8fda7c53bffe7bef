"""What a run reached, kept as a result: python benchmarks/trained.py RUN [RUN ...]

Of each run its recipe, the last checkpoint's scores beside those of real data (`rawdiff eval RUN`
writes them first), and the loss by noise level over training, at about twenty steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from measure import FACTS, write_result

NUM_POINTS = 20


def curve(run: Path) -> list[dict[str, float]]:
    """Lines of the log at evenly spaced steps and the last one: step, samples, loss by time."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    chosen = [*lines[:: max(len(lines) // NUM_POINTS, 1)], lines[-1]]
    kept = ("step", "samples", "samples_per_second")
    return [
        {key: value for key, value in line.items() if key in kept or key.startswith("loss")}
        for line in chosen
    ]


def result(run: Path) -> dict[str, Any]:
    environment = json.loads((run / "environment.json").read_text())
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["path"] = Path(recipe["data"]["path"]).name  # where it lay is of no interest
    return {
        "recipe": recipe,
        "environment of the training": {name: environment.get(name) for name in FACTS},
        **{file.stem: json.loads(file.read_text()) for file in sorted(run.glob("scores*.json"))},
        "curve": curve(run),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for run in parser.parse_args().runs:
        write_result(f"trained_{run.name}", result(run))
