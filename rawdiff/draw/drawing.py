"""Samples of a run, drawn in batches: one is written while the next is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rawdiff import picture
from rawdiff.assemble import make_writer, open_data
from rawdiff.conditions import Conditions, draw_conditions
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.loading import Subset
from rawdiff.data.writer import Writer
from rawdiff.draw.film import MAX_COLUMNS, MAX_ROWS, num_fitting, save_film
from rawdiff.draw.sample_set import FILM, PICTURE, SampleSet
from rawdiff.evaluate.store import digest
from rawdiff.frames import Frames, Look
from rawdiff.run import Progress, TrainedModel
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import draw_all
from rawdiff.saved.folder import RunFolder
from rawdiff.scoring.facts import Facts

NUM_STAGES = 25  # of a film


@dataclass(frozen=True)
class Drawn:
    """A batch of samples [B, C, …] from number `first` on, and frames [K, B, C, …] if wanted."""

    first: int
    x: Array
    frames: Array | None
    conditions: Conditions

    @property
    def labels(self) -> list[int] | None:
        label = self.conditions.label
        return None if label is None else label.tolist()


@dataclass(frozen=True)
class Drawing:
    """What draws the samples of a set, and writes them."""

    model: TrainedModel
    samples: SampleSet
    writer: Writer
    info: DataInfo
    """What the samples are, as the template has them."""
    settings: SampleSettings
    observed: Tensor | None
    """What was observed of each sample [num_samples, …], if anything."""

    @classmethod
    def of(cls, model: TrainedModel, target: Path, facts: dict[str, Any]) -> Drawing:
        """`facts` are all that the samples depend on."""
        settings, info = model.recipe.sample, model.sampler.info
        model.sampler.require_alike(settings)
        writer = make_writer(model.recipe, info)
        if settings.num_frames:
            writer.require_frames()
        if settings.template is not None:
            info = settings.template.placed(info)
        num = settings.num_samples
        settings, seen = model.sampler.observing(settings, Conditions(), num)
        if seen.observed is not None:
            facts = facts | {"digest of the observation": _digest_of_rows(seen.observed)}
        samples = SampleSet(target, facts, num, settings.batch_size, writer.shared)
        return cls(model, samples, writer, info, settings, seen.observed)

    def draw(self, batches: Sequence[range], progress: Progress | None) -> None:
        """Draw and write these batches. UserError where they cannot be written.

        One that is finished when this ends early is written all the same.
        """
        real = cache(lambda: open_data(self.model.recipe).real)
        total = self.samples.num_samples
        with ThreadPoolExecutor(1, "writing") as thread:
            before: Future[None] | None = None
            for batch in batches:
                if progress:
                    progress(self.samples.num_there(), total)
                drawn = self._drawn(batch, real)
                if before is not None:
                    before.result()  # so that no more than one waits, and errors are heard
                before = thread.submit(self._write, drawn)
            if before is not None:
                before.result()
        if progress:
            progress(self.samples.num_there(), total)

    def rehearse(self) -> None:
        """Draw the first sample in few steps. UserError for all that drawing would stumble over."""
        few = {"num_steps": min(2, self.settings.num_steps), "num_frames": 0}
        real = cache(lambda: open_data(self.model.recipe).real)
        conditions = self._conditions(range(1), real)
        self.model.sampler.draw(torch.arange(1), conditions, self.settings.model_copy(update=few))

    def finish(self) -> None:
        """The picture of the first samples, whoever drew them, and what all samples share."""
        shown = self.samples.shown()
        x = np.concatenate([part["x"] for part in shown])
        has_labels = "label" in shown[0]
        labels = [int(label) for part in shown for label in part["label"]] if has_labels else None
        image = self.writer.draw(x, info=self.info, labels=labels)
        picture.save_png(image, self.samples.path / PICTURE)
        self.samples.finish(
            lambda parts: self.writer.join(parts, self.samples.path, info=self.info)
        )

    def draw_film(self) -> None:
        """`film.gif` of the way from noise to the first samples: z_t, and x_pred beside it.

        They are drawn once more for it, so that a finished set can have one, too.
        """
        num_stages = max(self.settings.num_frames, min(NUM_STAGES, self.settings.num_steps + 1))
        start = self.settings.start
        first = range(min(self.settings.num_samples, self.writer.num_drawn, MAX_COLUMNS * MAX_ROWS))
        z_t = Frames(num_stages, start, lambda look: look.z_t())
        x_pred = Frames(num_stages, start)

        def watch(t: float, look: Look) -> None:
            z_t.watch(t, look)
            x_pred.watch(t, look)

        conditions = self._conditions(first, lambda: open_data(self.model.recipe).real)
        x = self.model.sampler.draw(torch.tensor(first), conditions, self.settings, watch)
        # No labels: a row for each class would show the samples in another order, and fewer.
        one = self.writer.draw(x[:1].numpy(), info=self.info)
        columns, rows = num_fitting(one)
        shown = slice(columns * rows)
        noisy, clean = (way.with_sample(x)[:, shown].numpy() for way in (z_t, x_pred))
        films = (
            self.writer.draw_noisy_stages(noisy, info=self.info, columns=columns),
            self.writer.draw_stages(clean, info=self.info, columns=columns),
        )
        times = torch.linspace(start, 1, num_stages).tolist()
        titles = [(f"t = {t:.2f}: z_t", "x_pred") for t in times]
        save_film(list(zip(*films, strict=True)), titles, self.samples.path / FILM)
        self.samples.add(FILM)

    def _conditions(self, batch: range, real: Callable[[], Subset]) -> Conditions:
        """What samples of these numbers are drawn for."""
        conditions = draw_conditions(
            self.model.sampler.info,
            self.settings.num_samples,
            self.settings.labels,
            real,
            slice(batch.start, batch.stop),
            self.settings.template,
        )
        if self.observed is None:
            return conditions
        return replace(conditions, observed=self.observed[batch.start : batch.stop])

    def _drawn(self, batch: range, real: Callable[[], Subset]) -> Drawn:
        conditions = self._conditions(batch, real)
        frames: list[Tensor] = []
        (x,) = draw_all(
            self.model.sampler,
            len(batch),
            conditions,
            self.settings,
            first_index=batch.start,
            keep_frames=lambda first, own: frames.append(own),
        )
        stages = frames[0].numpy() if frames else None
        return Drawn(batch.start, x.numpy(), stages, conditions)

    def _write(self, drawn: Drawn) -> None:
        labels, place = drawn.labels, drawn.conditions.place
        own = {} if place is None else {"place": place.numpy()}

        def write(folder: Path) -> None:
            which: dict[str, Any] = {"info": self.info, "first_index": drawn.first, **own}
            self.writer.write(drawn.x, folder, labels=labels, **which)
            if drawn.frames is not None:
                self.writer.write_frames(drawn.frames, folder, **which)

        num_shown = max(min(self.writer.num_drawn - drawn.first, len(drawn.x)), 0)
        shown = {} if not num_shown else {"x": drawn.x[:num_shown]}
        if shown and labels is not None:
            shown["label"] = np.array(labels[:num_shown])
        self.samples.publish(drawn.first, write, shown)


def _digest_of_rows(values: Tensor) -> str:
    """Of rows that may be one and the same, of which none is then made twice."""
    return digest({"one": values[:1]} if values.stride(0) == 0 else {"each": values})


def how_drawn(model: TrainedModel) -> dict[str, Any]:
    """What is needed to have the same samples again."""
    return model.origin | {"sample": model.recipe.sample.model_dump(mode="json")}


def all_facts(folder: RunFolder, model: TrainedModel) -> dict[str, Any]:
    """All that samples depend on: files of the same names may have been exchanged."""
    facts = Facts(folder, model, model.sampler.info)
    names = ("digest of weights", "digest of statistics", "precision", "device", "version")
    found = how_drawn(model) | {name: facts.drawn[name] for name in names}
    if model.sampler.info.are_told and model.recipe.sample.template is None:
        found["conditions of"] = facts.data(open_data(model.recipe).real)
    return found
