"""The figure of the toy: its panels come from a study's files, its claims from their numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from figure2 import BELOW, GAP, LEFT, PREDICTIONS, TOP, claims, draw_figure, holds, read_panels
from PIL import Image
from rawdiff_toy.spiral import Spiral
from rawdiff_toy.writer import POINT, SIDE, PlaneWriter, draw_points

from rawdiff.conditions import real_batch, spread
from rawdiff.picture import save_png
from rawdiff.study.board import Board
from rawdiff.study.stages import read_result
from rawdiff.study.start import plan_study
from rawdiff.study.table import Outcome

ROOT = Path(__file__).parents[2]
GRID = ["flow.prediction=x,eps,v", "data.num_dims=2,512"]
GOOD = {(2, "x"): 0.03, (2, "eps"): 0.1, (2, "v"): 0.05}
GOOD |= {(512, "x"): 0.02, (512, "eps"): 1.5, (512, "v"): 0.15}


def written_study(folder: Path, distances: dict[tuple[int, str], float]) -> Path:
    cells = {}
    for (num_dims, prediction), distance in distances.items():
        name = f"{num_dims}-{prediction}"
        cells[name] = {"data.num_dims": num_dims, "flow.prediction": prediction}
        rows = {"distance": distance, "off_plane": 0.1, "gap": 0.2}
        scores = {f"curve/{k}": {"generated": v, "real held-out": 0.0} for k, v in rows.items()}
        run = folder / "cells" / name
        (run / "samples").mkdir(parents=True)
        (run / "scores.json").write_text(json.dumps({"scores": scores}))
        place = np.array([[PREDICTIONS.index(prediction) - 1.0, 2.0]])
        save_png(draw_points(place), run / "samples" / "picture.png")
    (folder / "study.json").write_text(json.dumps({"cells": cells}))
    return folder


def test_the_claims_hold_for_such_numbers(tmp_path) -> None:
    found = claims(read_panels(written_study(tmp_path, GOOD)))
    assert [value for value, _, _ in found.values()] == pytest.approx([7.5, 75, 10 / 3])
    assert all(map(holds, found.values()))


@pytest.mark.parametrize(
    ("cell", "distance"), [((512, "v"), 0.09), ((512, "eps"), 0.9), ((2, "eps"), 0.13)]
)
def test_each_claim_can_fail(tmp_path, cell, distance) -> None:
    found = claims(read_panels(written_study(tmp_path, GOOD | {cell: distance})))
    assert [holds(claim) for claim in found.values()].count(False) == 1


def test_every_panel_stands_in_its_row_and_column(tmp_path) -> None:
    panels = read_panels(written_study(tmp_path, GOOD))
    page = np.asarray(draw_figure(panels))
    for row, num_dims in enumerate((2, 512)):
        for column, prediction in enumerate(PREDICTIONS, start=1):
            tile = np.asarray(Image.open(panels[num_dims, prediction].picture))
            left = LEFT + column * (SIDE + GAP)
            top = TOP + row * (SIDE + BELOW + GAP)
            assert np.array_equal(page[top : top + SIDE, left : left + SIDE], tile)


def test_a_study_shows_the_field_s_own_picture(tmp_path) -> None:
    """Of real data, and of samples as soon as there are any."""
    study = plan_study(ROOT / "recipes" / "figure2.yaml", GRID, out=tmp_path)
    results = [read_result(cell, None) for cell in study.cells]
    outcome = Outcome(study.grid, study.cells, results, study.command, None)
    Board(study.planned).write(outcome, tmp_path / "picture.png")

    def count(pixels: np.ndarray) -> int:
        return int((np.abs(pixels.astype(int) - POINT) < 40).all(-1).sum())

    held_out = study.planned[0].data.real
    real = real_batch(held_out, spread(2000, len(held_out))).x.numpy()
    expected = PlaneWriter().draw(real, info=Spiral(num_dims=2).info)
    shown = count(np.asarray(Image.open(tmp_path / "picture.png")))
    assert shown == pytest.approx(2 * count(np.asarray(expected)), rel=0.02)
