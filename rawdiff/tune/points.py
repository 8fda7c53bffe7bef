"""Points of a grid of sampling settings: each is scored once, and kept in RUN/tune/points."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from rawdiff import picture
from rawdiff.assemble import open_data
from rawdiff.averages.snapshots import snapshots
from rawdiff.conditions import draw_conditions
from rawdiff.errors import UserError
from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import parse_recipe
from rawdiff.results import score_model
from rawdiff.run import Progress, Say, TrainedModel, load_with
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import draw_all
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import EXPORT_WEIGHTS, RunFolder
from rawdiff.tuned import explicit
from rawdiff.version import __version__

NUM_SHOWN = 10  # samples in a strip
NOT_SCORED = ("run_dir", "train", "checkpoint", "sample")  # of a recipe: no part of a score
NUM_BYTES_READ = 2**16


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
        if self.goal == "oracle":
            assert self.oracle is not None
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
    processes: Processes = ALONE
    """Those that share the samples of each point."""
    _last: dict[str | None, TrainedModel] = field(default_factory=dict, init=False)

    def settings(self, point: Mapping[str, Any]) -> SampleSettings:
        """All sampling settings of a point, where guidance that does nothing is left out."""
        content = self.recipe.plain()
        content["sample"] |= point
        settings = parse_recipe(content, "of this grid").sample
        if settings.cfg_scale == 1 or not self.folder.info().num_classes:
            default = {"cfg_scale": 1.0, "cfg_interval": (0.1, 1.0), "cfg_parallel": 1.0}
            settings = settings.model_copy(update=default)
        return settings

    def model(self, settings: SampleSettings) -> TrainedModel:
        """The model with these settings; the weights that were read last are kept."""
        if settings.weights not in self._last:
            self._last.clear()  # first, so that two sets are never in memory
            overrides = [*self.overrides, *explicit(settings)]
            _, model = load_with(self.folder.path, overrides, self.step, self.say)
            self._last[settings.weights] = model
        model = self._last[settings.weights]
        recipe = model.recipe.model_copy(update={"sample": settings})
        return replace(model, recipe=recipe)

    def place(self, settings: SampleSettings) -> Path:
        """The file of a point, named by a hash of all that its score depends on."""
        recipe = self.recipe.plain()
        facts = {key: value for key, value in recipe.items() if key not in NOT_SCORED}
        facts |= {
            "metric": self.metric,
            "sample": settings.model_dump(mode="json", exclude={"num_samples", "writer"}),
            "step": self.step,
            "weights": self._origin_of_weights,
            "precision": recipe["train"]["precision"],
            "version": __version__,
        }
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder.tune / "points" / f"{name}.json"

    @cached_property
    def _origin_of_weights(self) -> Any:
        """What tells the weights from those of another training."""
        if self.folder.is_export:
            with (self.folder.path / EXPORT_WEIGHTS).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        manifests = [
            (one.path / checkpoint.MANIFEST).read_text(encoding="utf-8")
            for one in checkpoint.checkpoints(self.folder)
            if one.step == self.step
        ]
        averages = [
            (one.step, _digest_of_end(one.path))
            for one in snapshots(self.folder)
            if self.step is None or one.step <= self.step
        ]
        return manifests, averages

    def score(self, point: dict[str, Any], progress: Progress | None) -> Point:
        """The point with its score, which is read where it is there already."""
        settings = self.settings(point)
        path = self.place(settings)
        scored = self.processes.from_first(lambda: self._read(point, path))
        if scored is None:
            score_model(
                self.folder,
                self.model(settings),
                path,
                metrics=[self.metric.partition("/")[0]],
                say=self.say,
                progress=progress,
                processes=self.processes,
            )
            scored = self._read(point, path)
        if scored is None:
            there = ", ".join(json.loads(path.read_text(encoding="utf-8"))["scores"]) or "none"
            raise UserError(f"There is no score `{self.metric}`; there are: {there}.")
        if scored.goal == "oracle" and scored.oracle is None:
            raise UserError(
                f"The best `{self.metric}` is the nearest to that of real held-out data, and there "
                "are none. Give some (`holdout.data.path=…`), or choose another score."
            )
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
        if not self.processes.from_first(path.is_file):
            model = self.model(settings)  # which all of them read together
            self.processes.from_first(partial(_draw_strip, model, path))
        with Image.open(path) as image:
            return image.convert("RGB")


def _draw_strip(model: TrainedModel, path: Path) -> None:
    info, recipe = model.sampler.info, model.recipe
    settings = recipe.sample
    conditions = draw_conditions(info, NUM_SHOWN, settings.labels, lambda: open_data(recipe).real)
    drawn = list(draw_all(model.sampler, NUM_SHOWN, conditions, settings.like_real()))
    image = picture.draw_samples(torch.cat(drawn).numpy(), info, columns=NUM_SHOWN)
    edge = picture.MARGIN
    image = image.crop((edge, edge, image.width - edge, image.height - edge))
    picture.save_png(image, path)


def _digest_of_end(path: Path) -> str:
    """Of the last 64 kB, which differ between two trainings; files of gigabytes are not read."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - NUM_BYTES_READ, 0))
        return hashlib.sha256(file.read()).hexdigest()
