"""What each cell goes through, what of it is done, and what came out: read from its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rawdiff.draw.sample_set import LIST_FILE, SETTINGS_FILE
from rawdiff.errors import UserError
from rawdiff.recipe_file import read_recipe
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import RunFolder
from rawdiff.study.cells import Cell
from rawdiff.train.log import training_seconds
from rawdiff.tuned import read_tuned

Scores: TypeAlias = dict[str, dict[str, float]]

FINISHED, NOT_BEGUN = "finished", "not begun"
NUM_SHOWN = 16
"""Samples of each cell in the picture of the study."""


@dataclass(frozen=True)
class Stage:
    """A command that a cell needs, and whether it has done its work."""

    name: str
    arguments: Callable[[Cell], list[str]]
    is_done: Callable[[Cell], bool]


@dataclass(frozen=True)
class Result:
    """What a cell has come to: steps, loss of the last window of the log, seconds of training.

    `scores` are empty until they are those of the last step.
    """

    status: str
    steps: int | None
    training_loss: float | None
    seconds: float | None
    scores: Scores


def preview_folder(cell: Cell) -> Path:
    return cell.run / "preview"


def is_trained(cell: Cell) -> bool:
    """At its last step, and described by this very recipe."""
    folder = RunFolder(cell.run)
    there = checkpoint.checkpoints(folder)
    if not there or there[-1].step != cell.recipe.train.num_steps:
        return False
    try:
        return folder.recipe().plain() == cell.recipe.plain()
    except (OSError, UserError):
        return False  # `train` restores what describes a run


def is_previewed(cell: Cell) -> bool:
    chosen = {"num_samples": NUM_SHOWN, "writer": {"name": "arrays", "format": "npz"}}
    return _is_drawn(cell, preview_folder(cell), chosen)


def is_sampled(cell: Cell) -> bool:
    return _is_drawn(cell, RunFolder(cell.run).samples, {})


def _is_drawn(cell: Cell, folder: Path, changes: dict[str, Any]) -> bool:
    found = _read_json(folder / SETTINGS_FILE)
    return _is_of(found, cell, changes) and (folder / LIST_FILE).is_file()  # written last


def is_scored(cell: Cell) -> bool:
    origin = _read_json(RunFolder(cell.run).scores).get("origin", {})
    return _is_of(origin, cell, {}) and origin.get("evaluate") == cell.recipe.plain()["evaluate"]


def _is_of(origin: dict[str, Any], cell: Cell, changes: dict[str, Any]) -> bool:
    """Whether samples are those of the cell's last step and of its settings."""
    wanted = cell.recipe.plain()["sample"] | changes
    return origin.get("step") == cell.recipe.train.num_steps and origin.get("sample") == wanted


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where it is not there or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _as_recipe_says(cell: Cell) -> list[str]:
    """Overrides for keys that `rawdiff tune` set in the run: cells are compared as they were asked
    for."""
    tuned = read_tuned(RunFolder(cell.run))
    sample = cell.recipe.plain()["sample"]
    return [] if tuned is None else [f"sample.{k}={json.dumps(sample[k])}" for k in tuned.sample]


STAGES = (
    Stage("train", lambda cell: ["train", str(cell.beside_run(".yaml"))], is_trained),
    Stage(
        "preview",
        lambda cell: [
            *("sample", str(cell.run), *_as_recipe_says(cell)),
            *(f"sample.num_samples={NUM_SHOWN}", "sample.writer=arrays"),
            *("--out", str(preview_folder(cell))),
        ],
        is_previewed,
    ),
    Stage("sample", lambda cell: ["sample", str(cell.run), *_as_recipe_says(cell)], is_sampled),
    Stage("eval", lambda cell: ["eval", str(cell.run), *_as_recipe_says(cell)], is_scored),
)


def is_finished(cell: Cell) -> bool:
    return all(stage.is_done(cell) for stage in STAGES)


def is_finished_run(recipe: Path) -> bool:
    """Whether the cell of this file beside its run is finished; False for what is no recipe."""
    try:
        return is_finished(Cell({}, read_recipe(recipe)))
    except (OSError, UserError):
        return False


def read_result(cell: Cell, failure: str | None) -> Result:
    """What the cell's files say; `failure` is why its last command ended, if it did so badly."""
    lines = _metrics(RunFolder(cell.run).metrics)
    if failure is not None:
        status = f"failed: {failure}"
    elif is_finished(cell):
        status = FINISHED
    else:
        status = "begun" if lines else NOT_BEGUN
    scores = _read_json(RunFolder(cell.run).scores)["scores"] if is_scored(cell) else {}
    if not lines:
        return Result(status, None, None, None, scores)
    last = lines[-1]
    return Result(status, int(last["step"]), last.get("loss"), training_seconds(lines), scores)


def _metrics(path: Path) -> list[dict[str, float]]:
    """Lines of the log; one that is being written is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]
