"""The best settings for sampling a run: averages of its weights, guidance, any key of `sample:`.

Every point of a grid is scored and kept in RUN/tune/points, so that none is scored twice. The best
one becomes the run's default. (arXiv 2511.13720 chose its averages and guidance in this way)
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from rich.table import Table

from rawdiff import picture
from rawdiff.assemble import open_data
from rawdiff.conditions import draw_conditions
from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import FeatureEvaluator
from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.files import write_text
from rawdiff.plugins import load_plugin
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import apply_override, parse_recipe
from rawdiff.results import evaluate_run
from rawdiff.run import Progress, Say, load_with
from rawdiff.sampling import SampleSettings, draw_all
from rawdiff.train import checkpoint
from rawdiff.train.averages import snapshots
from rawdiff.train.folder import EXPORT_WEIGHTS, RunFolder
from rawdiff.tuned import Tuned, write_tuned
from rawdiff.version import __version__

Grid = Mapping[str, Sequence[Any]]

POSTHOC_WIDTHS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
CFG_SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
CFG_INTERVALS = ([0.1, 1.0], [0.0, 1.0])
NUM_SHOWN = 10  # samples of the best and of the recipe's settings in the picture


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
class Outcome:
    """Scored points, the best first, and the folder with table and picture."""

    points: list[Point]
    metric: str
    folder: Path


def table(outcome: Outcome, num_rows: int = 20) -> Table:
    """The best points for the terminal, beside the oracle."""
    result = Table(title=f"{outcome.points[0].num_samples:,} samples at each point")
    for key in (*outcome.points[0].settings, outcome.metric, ORACLE):
        result.add_column(key, no_wrap=True)
    for point in outcome.points[:num_rows]:
        values = [_text(value) for value in point.settings.values()]
        result.add_row(*values, _number(point.score), _number(point.oracle))
    return result


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`cfg_scale=1,2` and `cfg_interval=[0.1,1],[0,1]` to values by key of `sample:`."""
    grid: dict[str, list[Any]] = {}
    known = SampleSettings.model_fields
    for text in texts:
        key, _, values = text.partition("=")
        key = key.strip().removeprefix("sample.")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}."
            raise UserError(f"--grid {text}: `{key}` is not a key of `sample:`; {hint}")
        try:
            grid[key] = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError as error:
            raise UserError(f"--grid {text}: the values cannot be read: {error}") from error
        if not grid[key]:
            raise UserError(f"--grid {text} has no values; write such as `cfg_scale=1,1.5,2`.")
    return grid


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

    def strip(self, settings: SampleSettings) -> Image.Image:
        """A few samples with these settings, kept beside the point."""
        path = self.place(settings).with_suffix(".png")
        if not path.is_file():
            quiet: Say = lambda text: None  # noqa: E731
            _, model = load_with(self.folder.path, self.exact(settings), self.step, quiet)
            info = model.sampler.info
            conditions = draw_conditions(
                info, NUM_SHOWN, settings.labels, lambda: open_data(self.recipe).real
            )
            drawn = list(draw_all(model.sampler, NUM_SHOWN, conditions, settings))
            image = picture.draw_samples(torch.cat(drawn).numpy(), info, columns=NUM_SHOWN)
            picture.save_png(image, path)
        with Image.open(path) as image:
            return image.convert("RGB")


def default_grid(folder: RunFolder, recipe: Recipe) -> dict[str, list[Any]]:
    """All tracked averages, some widths beside them where snapshots are, guidance with labels."""
    grid: dict[str, list[Any]] = {}
    if not folder.is_export:
        widths = POSTHOC_WIDTHS if snapshots(folder) else ()
        names = [ema.name for ema in recipe.train.ema] + [f"power_{width}" for width in widths]
        grid["weights"] = list(dict.fromkeys(names)) or ["model"]
    grid["cfg_scale"] = list(CFG_SCALES) if folder.info().num_classes else [1.0]
    grid["cfg_interval"] = list(CFG_INTERVALS) if folder.info().num_classes else [[0.1, 1.0]]
    return grid


def tune(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    grid: Grid | None = None,
    metric: str = "frechet",
    num_samples: int | None = None,
    step: int | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> Outcome:
    """Score every point of the grid; the best becomes the run's default for sampling.

    Keys that `grid` leaves out of weights, cfg_scale and cfg_interval take `default_grid`'s
    values, unless an override gives them. `num_samples` are scored at each point (default: as the
    recipe says). Writes table.csv, table.md and picture.png into RUN/tune, and RUN/tuned.yaml.
    Raises UserError for what the run or the grid lacks.
    """
    folder = RunFolder.open(path)
    overrides = [*overrides, *_number_of_samples(metric, num_samples)]
    content = folder.recipe().plain()
    given: dict[str, Any] = {}
    for override in overrides:
        content, given = apply_override(content, override), apply_override(given, override)
    recipe = parse_recipe(content, str(path))
    explicit = given.get("sample") or {}
    defaults = default_grid(folder, recipe)
    chosen = {key: defaults[key] for key in defaults if key not in explicit} | dict(grid or {})
    if folder.is_export and "weights" in chosen:
        raise UserError(f"{path} is an export with one set of weights: tune its guidance alone.")
    tuning = Tuning(folder, recipe, overrides, _pinned_step(folder, step, say), metric, say)
    places = [dict(zip(chosen, values, strict=True)) for values in product(*chosen.values())]
    for place in places:
        tuning.settings(place)  # a mistake in the last must not show after hours
    points: dict[Path, Point] = {}
    for number, place in enumerate(places, 1):
        key = tuning.place(tuning.settings(place))
        if key in points:
            continue
        point = points[key] = tuning.score(place, progress)
        say(f"{number}/{len(places)}  {_shown(place)}  {metric} {point.score:.4g}")
    ordered = sorted(points.values(), key=lambda point: point.loss)
    _write(tuning, chosen, places, points, ordered)
    return Outcome(ordered, metric, folder.tune)


def _number_of_samples(metric: str, num_samples: int | None) -> list[str]:
    """Overrides for both kinds of evaluators: of samples in memory, and of features."""
    if num_samples is None:
        return []
    name, overrides = metric.partition("/")[0], [f"evaluate.num_samples={num_samples}"]
    if issubclass(load_plugin("evaluators", name), FeatureEvaluator):
        overrides.append(f"evaluate.evaluators.{name}.num_samples={num_samples}")
    return overrides


def _pinned_step(folder: RunFolder, step: int | None, say: Say) -> int | None:
    """One step for all points, also while the run goes on; None for an export."""
    if folder.is_export or step is not None:
        return step
    found = checkpoint.find_checkpoint(folder, None, say)
    if found is None:
        raise UserError(f"{folder.path} has no checkpoint yet; train it first, or wait for one.")
    return found.step


def _shown(settings: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={_text(value)}" for key, value in settings.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write(
    tuning: Tuning,
    grid: Grid,
    places: Sequence[dict[str, Any]],
    points: Mapping[Path, Point],
    ordered: Sequence[Point],
) -> None:
    """Table, picture, and the best settings for the run."""
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
    note = f"{best.num_samples:,} samples at each point, step {tuning.step}; the best first.\n\n"
    write_text(out / "table.md", note + text)

    own = tuning.settings({})
    strips = [("samples of the best", tuning.strip(tuning.settings(best.settings)))]
    strips += [("samples with the recipe's own settings", tuning.strip(own))]
    matrices = _matrices(tuning, grid, places, points, ordered)
    picture.save_png(picture.draw_matrices(matrices, strips), out / "picture.png")
    tuned = Tuned(
        sample=tuning.settings(best.settings).model_dump(mode="json", include=set(grid)),
        metric=tuning.metric,
        score=best.score,
        oracle=best.oracle,
        num_samples=best.num_samples,
        step=tuning.step or 0,
    )
    write_tuned(tuning.folder, tuned)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _matrices(
    tuning: Tuning,
    grid: Grid,
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
        title = f"{tuning.metric}   {_shown(here)}"
        rows = ["" if name is None else str(name) for name in down]
        columns = ["" if scale is None else f"cfg {scale}" for scale in across]
        matrices.append(picture.Matrix(title, rows, columns, values, ranks))
    return matrices
