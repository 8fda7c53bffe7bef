"""Points of a grid of sampling settings: each is scored once, and kept in RUN/tune/points."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from rawdiff import picture
from rawdiff.assemble import open_data
from rawdiff.conditions import draw_conditions
from rawdiff.errors import UserError
from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import parse_recipe
from rawdiff.results import evaluate_run
from rawdiff.run import Progress, Say, load_with
from rawdiff.sampling import SampleSettings, draw_all
from rawdiff.train import checkpoint
from rawdiff.train.averages import snapshots
from rawdiff.train.folder import EXPORT_WEIGHTS, RunFolder
from rawdiff.version import __version__

NUM_SHOWN = 10  # samples in a strip


@dataclass(frozen=True)
class Point:
    """Settings of a place in the grid, and what they reached."""

    settings: dict[str, Any]
    score: float
    oracle: float | None
    goal: str
    num_samples: int

    @property
    def loss(self) -> float:
        """What is to be small."""
        if self.goal == "oracle" and self.oracle is not None:
            return abs(self.score - self.oracle)
        return -self.score if self.goal == "high" else self.score


@dataclass(frozen=True)
class Tuning:
    """One run at one step, and what its points depend on beside their settings."""

    folder: RunFolder
    recipe: Recipe
    overrides: Sequence[str]
    step: int | None
    metric: str
    say: Say

    def settings(self, point: Mapping[str, Any]) -> SampleSettings:
        """All sampling settings of a point, where guidance that does nothing is left out."""
        content = self.recipe.plain()
        content["sample"] |= point
        settings = parse_recipe(content, "of this grid").sample
        if settings.cfg_scale == 1 or not self.folder.info().num_classes:
            default = {"cfg_scale": 1.0, "cfg_interval": (0.1, 1.0)}
            settings = settings.model_copy(update=default)
        return settings

    def exact(self, settings: SampleSettings) -> list[str]:
        """Overrides that leave nothing to settings that were tuned before."""
        plain = settings.model_dump(mode="json")
        return [*self.overrides, *(f"sample.{key}={json.dumps(plain[key])}" for key in plain)]

    def place(self, settings: SampleSettings) -> Path:
        """The file of a point, named by a hash of all that its score depends on."""
        recipe = self.recipe.plain()
        facts = {key: recipe[key] for key in ("data", "holdout", "seed", "evaluate")}
        facts |= {
            "metric": self.metric,
            "sample": settings.model_dump(mode="json", exclude={"num_samples", "writer"}),
            "step": self.step,
            "weights": self._origin_of_weights(),
            "precision": recipe["train"]["precision"],
            "version": __version__,
        }
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder.tune / "points" / f"{name}.json"

    def _origin_of_weights(self) -> Any:
        if self.folder.is_export:
            with (self.folder.path / EXPORT_WEIGHTS).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        steps = [one.step for one in snapshots(self.folder)]
        manifests = [
            (one.path / checkpoint.MANIFEST).read_text(encoding="utf-8")
            for one in checkpoint.checkpoints(self.folder)
            if one.step == self.step
        ]
        return manifests, [step for step in steps if self.step is None or step <= self.step]

    def score(self, point: dict[str, Any], progress: Progress | None) -> Point:
        """The point with its score, which is read where it is there already."""
        settings = self.settings(point)
        path = self.place(settings)
        if (found := self._read(point, path)) is not None:
            return found
        evaluate_run(
            self.folder.path,
            self.exact(settings),
            step=self.step,
            metrics=[self.metric.partition("/")[0]],
            out=path,
            say=self.say,
            progress=progress,
        )
        scored = self._read(point, path)
        if scored is None:
            names = ", ".join(json.loads(path.read_text(encoding="utf-8"))["scores"])
            raise UserError(f"There is no score `{self.metric}`; there are: {names}.")
        return scored

    def _read(self, point: dict[str, Any], path: Path) -> Point | None:
        name = self.metric.partition("/")[0]
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            row, count = report["scores"][self.metric], report["counts"][name][GENERATED]
            goal = report["goals"][self.metric]
            return Point(point, row[GENERATED], row.get(ORACLE), goal, count)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def strip(self, point: Mapping[str, Any]) -> Image.Image:
        """A few samples of a point, in a file beside its score."""
        settings = self.settings(point)
        path = self.place(settings).with_suffix(".png")
        if not path.is_file():
            _, model = load_with(self.folder.path, self.exact(settings), self.step, self.say)
            info = model.sampler.info
            conditions = draw_conditions(
                info, NUM_SHOWN, settings.labels, lambda: open_data(self.recipe).real
            )
            drawn = list(draw_all(model.sampler, NUM_SHOWN, conditions, settings))
            image = picture.draw_samples(torch.cat(drawn).numpy(), info, columns=NUM_SHOWN)
            edge = picture.MARGIN
            image = image.crop((edge, edge, image.width - edge, image.height - edge))
            picture.save_png(image, path)
        with Image.open(path) as image:
            return image.convert("RGB")
