"""`rawdiff tune`: score every point of a grid; the best one becomes the run's default.

(arXiv 2511.13720 chose its averages and its guidance in this way)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence, Set
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from rawdiff.averages.snapshots import snapshots
from rawdiff.errors import UserError
from rawdiff.evaluate.choose import choose_evaluators, require_score
from rawdiff.evaluate.evaluator import FeatureEvaluator
from rawdiff.plugins import load_plugin
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import apply_override, parse_recipe, read_grid_argument
from rawdiff.run import Progress, Say
from rawdiff.sample_settings import SampleSettings
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import RunFolder
from rawdiff.shared_work import shared_work
from rawdiff.tune.points import Point, Tuning
from rawdiff.tune.table import Outcome, shown, write_outcome
from rawdiff.tuned import Tuned, write_tuned

Grid = Mapping[str, Sequence[Any]]

POSTHOC_WIDTHS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
CFG_SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
CFG_INTERVALS = ([0.1, 1.0], [0.0, 1.0])
NOT_TUNED = ("num_samples", "writer")  # no score depends on them


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`cfg_scale=1,2` and `cfg_interval=[0.1,1],[0,1]` to values by key of `sample:`."""
    grid: dict[str, list[Any]] = {}
    known = SampleSettings.model_fields
    for text in texts:
        key, values = read_grid_argument(text)
        key = key.removeprefix("sample.")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}."
            raise UserError(f"--grid {text}: `{key}` is not a key of `sample:`; {hint}")
        if key in NOT_TUNED:
            raise UserError(
                f"--grid {text}: `sample.{key}` decides nothing of a score. How many samples are "
                "scored at each point is `--num-samples`."
            )
        grid[key] = values
    return grid


def default_grid(folder: RunFolder, recipe: Recipe) -> dict[str, list[Any]]:
    """All tracked averages, some widths beside them where snapshots are, guidance with labels."""
    grid: dict[str, list[Any]] = {}
    if not folder.is_export:
        has_snapshots = recipe.checkpoint.ema_every_steps and snapshots(folder)
        widths = POSTHOC_WIDTHS if has_snapshots else ()
        powers = {ema.power for ema in recipe.train.ema if ema.power is not None} | set(widths)
        names = [ema.name for ema in recipe.train.ema if ema.power is None]
        grid["weights"] = [*names, *(f"power_{width}" for width in sorted(powers))] or ["model"]
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
    Several processes share the samples of each point. Raises UserError for what the run or the
    grid lacks, and StoppedError on SIGTERM and SIGUSR1: the same call goes on.
    """
    overrides = [*overrides, *_number_of_samples(metric, num_samples)]
    with shared_work(path, overrides, say) as processes:
        say = processes.only_first(say)
        folder = RunFolder.open(path)
        recipe, explicit = _recipe_and_what_is_given(folder, overrides)
        name = metric.partition("/")[0]
        require_score(metric, choose_evaluators(recipe, [name])[name], folder.info())
        defaults = default_grid(folder, recipe)
        chosen = {key: defaults[key] for key in defaults if key not in explicit} | dict(grid or {})
        chosen = dict(sorted(chosen.items(), key=lambda item: item[0] != "weights"))  # read once
        if folder.is_export and "weights" in chosen:
            raise UserError(
                f"{path} is an export with one set of weights: tune its guidance alone."
            )
        step = processes.from_first(partial(_pinned_step, folder, step, say))
        tuning = Tuning(folder, recipe, overrides, step, metric, _each_once(say), processes)
        outcome = _search(tuning, chosen, say, progress)
        keys = {*chosen, *(key for key in explicit if key in defaults)}
        processes.from_first(partial(_write_best, tuning, outcome.points[0], keys))
    return outcome


def _recipe_and_what_is_given(
    folder: RunFolder, overrides: Sequence[str]
) -> tuple[Recipe, dict[str, Any]]:
    """The run's recipe with the overrides, and what they say of `sample:`."""
    content = folder.recipe().plain()
    given: dict[str, Any] = {}
    for override in overrides:
        content, given = apply_override(content, override), apply_override(given, override)
    return parse_recipe(content, str(folder.path)), given.get("sample") or {}


def _search(tuning: Tuning, grid: Grid, say: Say, progress: Progress | None) -> Outcome:
    """Score all places of the grid that differ, and write the tables."""
    places = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    different: dict[Path, dict[str, Any]] = {}
    for place in places:  # all of them first: a mistake in the last must not show after hours
        different.setdefault(tuning.place(tuning.settings(place)), place)
    strips = {"samples with the recipe's own settings": tuning.strip({})}  # nor what the run lacks
    points: dict[Path, Point] = {}
    for number, (key, place) in enumerate(different.items(), 1):
        point = points[key] = tuning.score(place, progress)
        say(f"{number}/{len(different)}  {shown(place)}  {tuning.metric} {point.score:.4g}")
    best = min(points.values(), key=lambda point: point.loss)
    strips = {"samples of the best": tuning.strip(best.settings)} | strips
    return tuning.processes.from_first(lambda: write_outcome(tuning, grid, places, points, strips))


def _write_best(tuning: Tuning, best: Point, keys: Set[str]) -> None:
    """Into tuned.yaml; with these keys of `sample:`."""
    sample = tuning.settings(best.settings).model_dump(mode="json", include=set(keys))
    score = {"metric": tuning.metric, "score": best.score, "oracle": best.oracle}
    tuned = Tuned(sample=sample, **score, num_samples=best.num_samples, step=tuning.step)
    write_tuned(tuning.folder, tuned)


def _each_once(say: Say) -> Say:
    """Without what is repeated: each point loads the model anew, and has the same to tell."""
    said: set[str] = set()

    def say_once(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return say_once


def _number_of_samples(metric: str, num_samples: int | None) -> list[str]:
    """Overrides for both kinds of evaluators: of samples in memory, and of features."""
    name = metric.partition("/")[0]
    evaluator = load_plugin("evaluators", name)  # a misspelt metric shows here
    if num_samples is None:
        return []
    overrides = [f"evaluate.num_samples={num_samples}"]
    if issubclass(evaluator, FeatureEvaluator):
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
