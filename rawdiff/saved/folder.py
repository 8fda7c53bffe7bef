"""What lies where in the folder that a run leaves; an export has the same files at its top."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rawdiff.assemble import read_description
from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import Statistics
from rawdiff.errors import UserError
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import read_recipe

EXPORT_WEIGHTS = "model.safetensors"
DESCRIPTION = ("recipe.yaml", "data.json", "statistics.safetensors", "environment.json")


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run folder, and readers of its small files."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """A folder that holds a run or an export. UserError if it does not."""
        folder = cls(Path(path).expanduser())
        if folder.path.is_file():
            raise UserError(
                f"{path} is a file; give the folder of a run or an export. `rawdiff import` makes "
                "one of a checkpoint of other code."
            )
        if not folder.path.is_dir():
            raise UserError(f"There is no run {path}: {_nearest(folder.path)}")
        missing = [name for name in DESCRIPTION[:3] if not (folder.path / name).is_file()]
        if missing:
            raise UserError(f"{path} holds no run: {', '.join(missing)} missing there.")
        return folder

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def averages(self) -> Path:
        return self.path / "averages"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def rollbacks(self) -> Path:
        return self.path / "rollbacks.json"

    @property
    def diagnosis(self) -> Path:
        return self.path / "diagnosis.json"

    @property
    def replays(self) -> Path:
        return self.path / "replays"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    @property
    def heartbeats(self) -> Path:
        return self.path / "heartbeats"

    @property
    def stacks(self) -> Path:
        return self.path / "stacks"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def scores(self) -> Path:
        return self.path / "scores.json"

    @property
    def likelihood(self) -> Path:
        return self.path / "likelihood.json"

    @property
    def calibration(self) -> Path:
        return self.path / "calibration.json"

    @property
    def scoring(self) -> Path:
        return self.path / "scoring"

    @property
    def tune(self) -> Path:
        return self.path / "tune"

    @property
    def tuned(self) -> Path:
        return self.path / "tuned.yaml"

    @property
    def statistics_file(self) -> Path:
        return self.path / "statistics.safetensors"

    @property
    def is_export(self) -> bool:
        return (self.path / EXPORT_WEIGHTS).is_file()

    def recipe(self) -> Recipe:
        return read_recipe(self.path / "recipe.yaml")

    def info(self) -> DataInfo:
        try:
            return read_description(self.data_description())
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.path / 'data.json'} is damaged ({error}). The checkpoints of the run hold "
                "copies of it."
            ) from error

    def data_description(self) -> str:
        return (self.path / "data.json").read_text(encoding="utf-8")

    def num_train_samples(self) -> int | None:
        """None for an imported model: its data are not known."""
        found: int | None = json.loads(self.data_description())["num_train_samples"]
        return found

    def statistics(self) -> Statistics:
        return Statistics.load(self.statistics_file)

    def environment(self) -> dict[str, Any]:
        """On what and with which versions it was made; empty where that is not known."""
        path = self.path / "environment.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}). It only says what the run was made on: remove it."
            ) from error
        return found


def _nearest(path: Path) -> str:
    """What to give instead: the run of the nearest name beside it, or in `runs`."""
    beside = [p for folder in (path.parent, Path("runs")) for p in folder.glob("*/recipe.yaml")]
    runs = {p.parent.name: p.parent for p in reversed(beside)}
    if near := get_close_matches(path.name, runs, n=1):
        return f"did you mean `{runs[near[0]]}`?"
    return "give the `run_dir` of a recipe that ran."
