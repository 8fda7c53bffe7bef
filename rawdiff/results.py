"""What a run yields: samples in the field's own files, and scores beside those of real data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rawdiff import picture
from rawdiff.assemble import describe_data, make_writer, open_data, require_same_data
from rawdiff.conditions import draw_conditions, real_batch, spread
from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import measure
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.evaluate import report as score_report
from rawdiff.evaluate.evaluator import Basis, Evaluator
from rawdiff.files import write_text
from rawdiff.plugins import build_plugin, plugins
from rawdiff.recipe import Recipe
from rawdiff.run import Progress, Say, TrainedModel, load_with
from rawdiff.sampling import draw_all

SETTINGS_FILE = "settings.json"


def sample_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    step: int | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> Path:
    """Draw `sample.num_samples` samples, write the field's own files and a picture.

    Returns the folder with them: `out`, or `samples` in the run. What an earlier call wrote there
    is replaced; UserError if the folder holds anything else.
    """
    folder, model = load_with(path, overrides, step, say)
    settings, info = model.recipe.sample, model.sampler.info
    target = folder.samples if out is None else out
    writer = make_writer(model.recipe, info)
    conditions = draw_conditions(
        info, settings.num_samples, settings.labels, lambda: open_data(model.recipe).real
    )
    _clear_for_samples(target)
    write_text(target / SETTINGS_FILE, json.dumps(_how_drawn(model), indent=1))
    shown, done = [], 0
    for batch in draw_all(model.sampler, settings.num_samples, conditions, settings):
        part = slice(done, done + len(batch))
        labels = conditions[part].label
        _write(writer, batch, target, info, done, None if labels is None else labels.tolist())
        shown += [batch[: max(writer.num_drawn - done, 0)]]
        done = part.stop
        if progress:
            progress(done, settings.num_samples)
    samples = torch.cat(shown).numpy()
    label = conditions[: len(samples)].label
    image = writer.draw(samples, info=info, labels=None if label is None else label.tolist())
    picture.save_png(image, target / "picture.png")
    say(f"{done} samples and picture.png are in {target}.")
    return target


def _clear_for_samples(target: Path) -> None:
    """Make room where only an earlier set of samples is lost."""
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; give a folder for the samples.")
    if target.is_dir() and any(target.iterdir()):
        if not (target / SETTINGS_FILE).is_file():
            raise UserError(f"{target} holds something else than samples; give another folder.")
        shutil.rmtree(target)


def _how_drawn(model: TrainedModel) -> dict[str, Any]:
    """What is needed to have the same samples again."""
    return model.origin | {"sample": model.recipe.sample.model_dump(mode="json")}


def _write(
    writer: Writer,
    batch: Tensor,
    target: Path,
    info: DataInfo,
    first: int,
    labels: list[int] | None,
) -> None:
    try:
        writer.write(batch.numpy(), target, info=info, first_index=first, labels=labels)
    except OSError as error:
        raise UserError(f"Samples cannot be written to {target}: {error}.") from error


def _evaluators(recipe: Recipe) -> dict[str, Evaluator]:
    """Those that the recipe names, else all that are installed."""
    chosen = recipe.evaluate.evaluators
    if chosen is None:
        chosen = {plugin.name: {} for plugin in plugins("evaluators")}
    return {
        name: build_plugin("evaluators", keys | {"name": name}) for name, keys in chosen.items()
    }


def evaluate_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    step: int | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> score_report.Report:
    """Score new samples and, beside them, real held-out data; writes `scores.json` into the run.

    Samples are drawn for the labels, scalars and context of the held-out data, as many as there
    are, `evaluate.num_samples` at most. They miss the values that their held-out twins miss, so
    that gaps weigh the same in both columns.
    """
    folder, model = load_with(path, overrides, step, say)
    recipe, data = model.recipe, open_data(model.recipe)
    require_same_data(folder.data_description(), describe_data(data), folder.path)
    if data.holdout is None:
        raise UserError(
            "A score says nothing without that of real held-out data beside it, and this recipe "
            "holds none out. Give some: `holdout.data.path=…` at the end of this command, or "
            "`holdout: {fraction: 0.1}` in the recipe before training."
        )
    held_out = real_batch(data.holdout, spread(recipe.evaluate.num_samples, len(data.holdout)))
    reference = real_batch(data.train, spread(recipe.evaluate.num_reference, len(data.train)))
    generated = model.sample(
        len(held_out),
        held_out.label,
        recipe.sample.seed,
        scalars=held_out.scalars,
        context=held_out.context,
        progress=progress,
    )
    moments = measure(reference.split(64)).x
    scores = score_report.evaluate(
        torch.where(held_out.x.isnan(), torch.nan, generated),
        held_out.x.float(),
        reference.x.float(),
        Basis(model.sampler.info, recipe.adapter, moments.mean, moments.std),
        _evaluators(recipe),
    )
    how_scored = {"evaluate": recipe.evaluate.model_dump(mode="json")}
    score_report.write(scores, folder.scores, _how_drawn(model) | how_scored)
    return scores
