"""Forecasts of a run: a series continued from known states, member by member."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rawdiff.assemble import describe_info, require_same_data
from rawdiff.data.dataset import Dataset
from rawdiff.errors import UserError
from rawdiff.files import locked
from rawdiff.run import Progress, Say, TrainedModel, load_with
from rawdiff.saved.folder import RunFolder
from rawdiff.series import Draw, Question, Request, Series
from rawdiff.shared_work import shared_work


def forecast_run(
    path: str | Path,
    request: Request,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    step: int | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> Path:
    """Draw an ensemble from each init, and write it as the field does; returns the file.

    Known states come from the files of `data` at any time. What an earlier call with the same
    settings left in the file goes on. Several processes share the members. Raises StoppedError on
    SIGTERM and SIGUSR1.
    """
    with shared_work(path, overrides, say) as processes:
        say = processes.only_first(say)
        folder, model = load_with(path, overrides, step, say)
        data = open_series(folder, model.recipe.data)
        file = folder.path / data.forecast_file if out is None else out
        processes.from_first(lambda: data.begin_forecasts(request, file, origin(model)))
        with locked(file) if processes.is_first and file.is_dir() else nullcontext():
            missing = data.forecasts(request, file, model.recipe.sample.batch_size)
            processes.wait()  # until all have seen what is missing, before any writes
            own = missing[processes.rank :: processes.count]
            done, total = 0, sum(rollout.num_draws for rollout in own)

            def count() -> None:
                nonlocal done
                done += 1
                if progress and processes.is_first:
                    progress(done, total)

            for rollout in own:
                rollout.run(draw_with(model), count)
            processes.wait()
            processes.from_first(lambda: data.end_forecasts(request, file))
        if not missing:
            say("All of it was there already.")
        say(f"{file} holds the forecasts.")
    return file


def open_series(folder: RunFolder, data: Dataset) -> Series:
    """The data as a series. UserError if they are none, or not of the kind of the training."""
    if not isinstance(data, Series):
        raise UserError(
            f"{folder.path} was not trained on a series in time, so it has no forecasts. Leave "
            "out --init, --steps and --members to draw samples."
        )
    now = describe_info(data.info, folder.num_train_samples())
    require_same_data(folder.data_description(), now, folder.path)
    return data


def draw_with(model: TrainedModel) -> Draw:
    """Answers with the model's samples, at most `sample.batch_size` at a time."""
    settings = model.recipe.sample

    def draw(question: Question) -> Tensor:
        parts = range(0, len(question.index), settings.batch_size)
        drawn = [
            model.sampler.draw(question.index[part], question.conditions[part], settings)
            for part in (slice(i, i + settings.batch_size) for i in parts)
        ]
        return torch.cat(drawn)

    return draw


def origin(model: TrainedModel) -> dict[str, Any]:
    """All of a model that its forecasts depend on."""
    settings = model.recipe.sample.model_dump(mode="json", exclude={"batch_size", "num_samples"})
    return model.origin | {"sample": settings, "data": model.recipe.plain()["data"]}
