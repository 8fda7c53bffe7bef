"""The example in a notebook runs as it stands, and its samples are what it says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.svm import SVC

NOTEBOOK = Path(__file__).parents[2] / "examples" / "own_loop.ipynb"


def _cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_a_loop_of_ones_own_learns_to_write_digits() -> None:
    found: dict[str, Any] = {}
    for cell in _cells():
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), found)
    losses = found["losses"]
    assert np.mean(losses[-20:]) < 0.4 * np.mean(losses[:20])
    digits = found["digits"]
    reader = SVC().fit(digits.images.reshape(len(digits.images), -1), digits.target)
    drawn = (found["samples"] + 1) * 8
    read = reader.predict(drawn.flatten(1).numpy())
    assert np.mean(read == found["wanted"].numpy()) > 0.9
    assert found["page"](found["samples"]).size == (600, 360)


def test_the_notebook_shows_the_picture_that_it_ends_in() -> None:
    outputs = _cells()[-1]["outputs"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
