"""Tables and the picture of a tuning: every score beside the oracle's, the best first."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from rich.table import Table

from rawdiff import picture
from rawdiff.data.dataset import Array
from rawdiff.evaluate.report import ORACLE
from rawdiff.files import write_text
from rawdiff.tune.points import Point, Tuning


@dataclass(frozen=True)
class Outcome:
    """Scored points, the best first, and the folder with table and picture."""

    points: list[Point]
    metric: str
    folder: Path


def outcome_table(outcome: Outcome, num_rows: int = 20) -> Table:
    """The best points for the terminal, beside the oracle."""
    result = Table(title=f"{outcome.points[0].num_samples:,} samples at each point")
    for key in (*outcome.points[0].settings, outcome.metric, ORACLE):
        result.add_column(key, no_wrap=True)
    for point in outcome.points[:num_rows]:
        values = [_text(value) for value in point.settings.values()]
        result.add_row(*values, _number(point.score), _number(point.oracle))
    return result


def shown(settings: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={_text(value)}" for key, value in settings.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def write_outcome(
    tuning: Tuning,
    grid: Mapping[str, Sequence[Any]],
    places: Sequence[dict[str, Any]],
    points: Mapping[Path, Point],
    strips: Mapping[str, Image],
) -> Outcome:
    """Write table.csv, table.md and picture.png of all places; returns the points in order."""
    ordered = sorted(points.values(), key=lambda point: point.loss)
    best, out = ordered[0], tuning.folder.tune
    head = [*grid, tuning.metric, ORACLE]
    rows = [
        [*(_text(point.settings[key]) for key in grid), f"{point.score:.6g}", _number(point.oracle)]
        for point in ordered
    ]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([head, *rows])
    write_text(out / "table.csv", file.getvalue())
    lines = [head, ["---"] * len(head), *rows]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    of_step = "" if tuning.step is None else f" of step {tuning.step}"
    note = f"{best.num_samples:,} samples{of_step} at each point; the best first.\n\n"
    write_text(out / "table.md", note + text)

    matrices = _matrices(tuning, grid, places, points, ordered)
    picture.save_png(picture.draw_matrices(matrices, list(strips.items())), out / "picture.png")
    return Outcome(ordered, tuning.metric, out)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _matrices(
    tuning: Tuning,
    grid: Mapping[str, Sequence[Any]],
    places: Sequence[dict[str, Any]],
    points: Mapping[Path, Point],
    ordered: Sequence[Point],
) -> list[picture.Matrix]:
    """Weights down, guidance across; one matrix for each setting of the other keys."""
    others = [key for key in grid if key not in ("weights", "cfg_scale")]
    down, across = (list(grid.get(key, [None])) for key in ("weights", "cfg_scale"))
    losses = [point.loss for point in ordered]
    matrices = []
    for rest in product(*(grid[key] for key in others)):
        here = dict(zip(others, rest, strict=True))
        values: Array = np.full((len(down), len(across)), np.nan)
        ranks = values.copy()
        for place in places:
            if all(place[key] == value for key, value in here.items()):
                point = points[tuning.place(tuning.settings(place))]
                index = down.index(place.get("weights")), across.index(place.get("cfg_scale"))
                values[index] = point.score
                ranks[index] = losses.index(point.loss) / max(len(losses) - 1, 1)
        title = f"{tuning.metric}   {shown(here)}"
        rows = ["" if name is None else str(name) for name in down]
        columns = ["" if scale is None else f"cfg {scale}" for scale in across]
        matrices.append(picture.Matrix(title, rows, columns, values, ranks))
    return matrices
