"""Figure 2 of arXiv 2511.13720 from its study: python benchmarks/figure2.py STUDY [--record]

Draws ground truth and samples of the three predictions in 2, 8, 16 and 512 dimensions, prints the
numbers of each panel, and checks what the figure claims. `make figure2` trains the study first.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, write_result
from PIL import Image, ImageDraw, ImageFont
from rawdiff_toy.spiral import Spiral
from rawdiff_toy.writer import SIDE, PlaneWriter

from rawdiff.picture import save_png

PREDICTIONS = ("x", "eps", "v")
GAP, TOP, LEFT, BELOW = 18, 46, 92, 44
TEXT, QUIET = (30, 30, 30), (110, 110, 110)


@dataclass(frozen=True)
class Panel:
    """What one training came to: scores by name, and the picture of its samples."""

    scores: dict[str, float]
    oracle: dict[str, float]
    picture: Path


Panels = dict[tuple[int, str], Panel]


def read_panels(study: Path) -> Panels:
    """By number of dims and prediction, as far as the study's cells are finished."""
    cells: dict[str, dict[str, Any]] = json.loads((study / "study.json").read_text())["cells"]
    panels = {}
    for name, values in cells.items():
        run = study / "cells" / name
        scores = json.loads((run / "scores.json").read_text())["scores"]
        short = {key.removeprefix("curve/"): row for key, row in scores.items()}
        panels[values["data.num_dims"], values["flow.prediction"]] = Panel(
            scores={key: row["generated"] for key, row in short.items()},
            oracle={key: row["real held-out"] for key, row in short.items()},
            picture=run / "samples" / "picture.png",
        )
    return panels


def claims(panels: Panels) -> dict[str, tuple[float, str, float]]:
    """What must hold: the ratio found, on which side of which bound it must lie."""

    def distances(num_dims: int) -> dict[str, float]:
        return {p: panels[num_dims, p].scores["distance"] for p in PREDICTIONS}

    low, high = distances(2), distances(512)
    return {
        "D = 512: distance of v over that of x": (high["v"] / high["x"], ">=", 5),
        "D = 512: distance of eps over that of x": (high["eps"] / high["x"], ">=", 50),
        "D = 2: largest distance over smallest": (max(low.values()) / min(low.values()), "<=", 4),
    }


def holds(claim: tuple[float, str, float]) -> bool:
    value, side, bound = claim
    return value >= bound if side == ">=" else value <= bound


def draw_figure(panels: Panels) -> Image.Image:
    """Rows D, columns ground truth, x-, eps- and v-prediction; two numbers below each panel."""
    rows = sorted({num_dims for num_dims, _ in panels})
    columns = ("ground truth", *(f"{p}-prediction" for p in PREDICTIONS))
    size = (LEFT + len(columns) * (SIDE + GAP), TOP + len(rows) * (SIDE + BELOW + GAP))
    page = Image.new("RGB", size, (255, 255, 255))
    pen, large, small = ImageDraw.Draw(page), ImageFont.load_default(19), ImageFont.load_default(14)
    for column, name in enumerate(columns):
        middle = LEFT + column * (SIDE + GAP) + SIDE / 2
        pen.text((middle, TOP / 2), name, fill=TEXT, font=large, anchor="mm")
    for row, num_dims in enumerate(rows):
        top = TOP + row * (SIDE + BELOW + GAP)
        pen.text((LEFT / 2, top + SIDE / 2), f"D = {num_dims}", fill=TEXT, font=large, anchor="mm")
        for column in range(len(columns)):
            left = LEFT + column * (SIDE + GAP)
            panel = panels[num_dims, PREDICTIONS[max(column - 1, 0)]]
            scores = panel.scores if column else panel.oracle
            page.paste(Image.open(panel.picture) if column else _truth(num_dims), (left, top))
            for line, text in enumerate(_lines(scores)):
                place = (left + SIDE / 2, top + SIDE + 13 + 18 * line)
                pen.text(place, text, fill=QUIET if line else TEXT, font=small, anchor="mm")
    return page


def _truth(num_dims: int, num_points: int = 2000) -> Image.Image:
    data = Spiral(num_dims=num_dims, num_samples=num_points, seed=1)
    samples = np.stack([sample.x for sample in data.get_batch(range(num_points))])
    return PlaneWriter().draw(samples, info=data.info)


def _lines(scores: dict[str, float]) -> tuple[str, str]:
    distance = scores["distance"]
    shown = f"{distance:.2g}" if distance < 100 else f"{distance:,.0f}"
    off_plane = f"{scores['off_plane']:.2%}".replace("0.00%", "0%")
    return f"distance {shown if distance >= 1e-4 else '0'}", f"energy off the plane {off_plane}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--record", action="store_true", help="into benchmarks/results, too")
    args = parser.parse_args()
    panels, path = read_panels(args.study), args.study / "figure2.png"
    figure = draw_figure(panels)
    save_png(figure, path)
    print(f"{'D':>4}  {'prediction':10}  {'distance':>10}  {'off plane':>10}  {'gap':>8}")
    for (num_dims, prediction), panel in sorted(panels.items()):
        s = panel.scores
        print(
            f"{num_dims:4}  {prediction:10}  {s['distance']:10.4g}  {s['off_plane']:10.2%}  "
            f"{s['gap']:8.3g}"
        )
    found = claims(panels)
    for name, claim in found.items():
        value, side, bound = claim
        print(f"{'holds' if holds(claim) else 'FAILS'}: {name}: {value:.3g} {side} {bound}")
    print(f"figure: {path}")
    if args.record:
        save_png(figure, RESULTS / "figure2.png")
        rows = [
            {"num_dims": d, "prediction": p, **panel.scores, "real held-out": panel.oracle}
            for (d, p), panel in sorted(panels.items())
        ]
        ratios = {name: {"value": v, "must be": f"{s} {b}"} for name, (v, s, b) in found.items()}
        print(write_result("figure2", {"panels": rows, "claims": ratios}))
    sys.exit(not all(map(holds, found.values())))


if __name__ == "__main__":
    main()
