"""What a run yields: samples in the field's own files, and scores beside those of real data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rawdiff import picture
from rawdiff.assemble import make_writer, open_data
from rawdiff.conditions import Conditions, draw_conditions
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.evaluate import report as score_report
from rawdiff.evaluate.choose import choose_evaluators
from rawdiff.evaluate.evaluator import Scorer
from rawdiff.files import write_text
from rawdiff.run import Progress, Say, TrainedModel, load_with
from rawdiff.sampling import draw_all
from rawdiff.saved.folder import RunFolder
from rawdiff.scoring import Scoring

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
        info,
        settings.num_samples,
        settings.labels,
        lambda: open_data(model.recipe).real,
        template=settings.template,
    )
    settings, conditions = model.sampler.observing(settings, conditions, settings.num_samples)
    if settings.template is not None:
        info = settings.template.placed(info)
    _clear_for_samples(target)
    write_text(target / SETTINGS_FILE, json.dumps(_how_drawn(model), indent=1))
    shown, done = [], 0

    def keep_frames(first: int, frames: Tensor) -> None:
        part = conditions[first : first + frames.shape[1]]
        with _writing(target):
            writer.write_frames(
                frames.numpy(), target, info=info, first_index=first, **_place(part)
            )

    for batch in draw_all(
        model.sampler, settings.num_samples, conditions, settings, keep_frames=keep_frames
    ):
        part = slice(done, done + len(batch))
        _write(writer, batch, target, info, done, conditions[part])
        if done < writer.num_drawn:  # not an empty part of each batch: it would keep all in memory
            shown.append(batch[: writer.num_drawn - done])
        done = part.stop
        if progress:
            progress(done, settings.num_samples)
    samples = torch.cat(shown).numpy()
    labels = _labels(conditions[: len(samples)])
    image = writer.draw(samples, info=info, labels=labels)
    picture.save_png(image, target / "picture.png")
    say(f"{done} samples and picture.png are in {target}.")
    return target


def _labels(conditions: Conditions) -> list[int] | None:
    return None if conditions.label is None else conditions.label.tolist()


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
    conditions: Conditions,
) -> None:
    labels, place = _labels(conditions), _place(conditions)
    with _writing(target):
        writer.write(batch.numpy(), target, info=info, first_index=first, labels=labels, **place)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"Samples cannot be written to {target}: {error}.") from error


def _place(conditions: Conditions) -> dict[str, Array]:
    """As a writer takes it, where samples have one."""
    return {} if conditions.place is None else {"place": conditions.place.numpy()}


def evaluate_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    step: int | None = None,
    metrics: Sequence[str] | None = None,
    out: Path | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> score_report.Report:
    """Score new samples and, beside them, real held-out data; writes JSON into `out`.

    `metrics` names the evaluators (default: as the recipe says); `out` is by default what
    `scores_path` gives. Samples are drawn for the labels, scalars and context of the held-out
    data, as many as there are, `evaluate.num_samples` at most. They miss the values that their
    held-out twins miss, so that gaps weigh the same in both columns. Evaluators of features draw
    as many as they say, for labels in turn. What was killed goes on when it is called again.
    """
    folder, model = load_with(path, overrides, step, say)
    _evaluators(model, metrics)  # before a file is named after a mistake
    target = scores_path(folder.path, metrics) if out is None else out
    return score_model(folder, model, target, metrics=metrics, say=say, progress=progress)


def score_model(
    folder: RunFolder,
    model: TrainedModel,
    target: Path,
    *,
    metrics: Sequence[str] | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> score_report.Report:
    """As `evaluate_run`, for a model of the run that is loaded; writes the JSON file `target`."""
    evaluators = _evaluators(model, metrics)
    return Scoring(folder, model, say, progress).evaluate(
        evaluators, lambda scores: score_report.write(scores, target, _how_scored(model))
    )


def _evaluators(model: TrainedModel, metrics: Sequence[str] | None) -> dict[str, Scorer]:
    return choose_evaluators(model.recipe, metrics, model.sampler.info)


def scores_path(run: str | Path, metrics: Sequence[str] | None = None) -> Path:
    """Where scores are written: `scores.json`, or `scores-fid.json` where metrics are named."""
    scores = RunFolder(Path(run).expanduser()).scores
    named = "".join(f"-{name}" for name in dict.fromkeys(metrics or ()))
    return scores.with_stem(scores.stem + named)


def _how_scored(model: TrainedModel) -> dict[str, Any]:
    return _how_drawn(model) | {"evaluate": model.recipe.evaluate.model_dump(mode="json")}
