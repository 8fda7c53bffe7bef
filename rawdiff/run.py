"""A trained model, loaded from a run or an export: predict, sample, score, write, export."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rawdiff import picture
from rawdiff.assemble import (
    Data,
    describe_data,
    make_network,
    make_patcher,
    materialize,
    open_data,
    require_same_data,
)
from rawdiff.conditions import (
    Conditions,
    Labels,
    draw_conditions,
    label_tensor,
    real_batch,
    spread,
)
from rawdiff.data.dataset import DataInfo
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import measure
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.evaluate import report as score_report
from rawdiff.evaluate.evaluator import Evaluator, Setting
from rawdiff.files import write_text
from rawdiff.plugins import build_plugin, load_plugin, plugins
from rawdiff.precision import Device, choose_device
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import apply_override, parse_recipe
from rawdiff.sampling import Sampler, SampleSettings, draw_all
from rawdiff.train.folder import DESCRIPTION, EXPORT_WEIGHTS, RunFolder
from rawdiff.train.weights import default_weights, read_weights, take_over

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""progress(done, total), in samples."""

SETTINGS_FILE = "settings.json"
MAX_SHOWN = 100  # samples in the picture of a set


@dataclass(frozen=True)
class TrainedModel:
    """Draws samples and predicts, with the settings of the run that it comes from."""

    recipe: Recipe
    sampler: Sampler

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (C, …)."""
        return self.sampler.info.shape

    def predict(
        self,
        z_t: Tensor,
        t: Tensor | float,
        label: Labels = None,
        scalars: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """The clean data that the network sees in z_t: [B, C, …], standardized like z_t.

        t is one time or [B]; label one class or [B], where num_classes (or None) means none;
        scalars [B, S] and context [B, C', …] are in data units. NaN in z_t marks missing values.
        """
        z_t = torch.as_tensor(z_t)
        if z_t.shape[1:] != self.shape:
            raise UserError(
                f"z_t must have shape [B, {', '.join(map(str, self.shape))}], "
                f"found {list(z_t.shape)}."
            )
        times = torch.as_tensor(t, dtype=torch.float32).flatten()
        if len(times) not in (1, len(z_t)):
            raise UserError(f"{len(times)} times for {len(z_t)} samples; give one for each.")
        conditions = self._conditions(len(z_t), label, scalars, context)
        return self.sampler.predict(z_t, times.expand(len(z_t)), conditions)

    def sample(
        self,
        num_samples: int,
        label: Labels = None,
        seed: int = 0,
        *,
        scalars: Tensor | None = None,
        context: Tensor | None = None,
        first_index: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Tensor:
        """New samples [n, C, …] in data units, float32 on the CPU; NaN where data are never known.

        label is one class for all, or [n]; None means none. `settings` replace keys of the
        recipe's `sample:` (solver, num_steps, cfg_scale, …). Sample number i depends on the seed
        and i alone: ten samples from `first_index=90` are the last ten of a hundred.
        """
        chosen = SampleSettings(**(self.recipe.sample.model_dump() | settings | {"seed": seed}))
        conditions = self._conditions(num_samples, label, scalars, context)
        batches, done = [], 0
        for batch in draw_all(
            self.sampler, num_samples, conditions, chosen, first_index=first_index
        ):
            batches.append(batch)
            done += len(batch)
            if progress:
                progress(done, num_samples)
        return torch.cat(batches) if batches else torch.empty(0, *self.shape)

    def _conditions(
        self, num: int, label: Labels, scalars: Tensor | None, context: Tensor | None
    ) -> Conditions:
        info = self.sampler.info
        given = {
            "scalars": (scalars, len(info.scalar_names)),
            "context": (context, info.num_context_channels),
        }
        for name, (value, width) in given.items():
            if value is None and width and name == "context":
                raise UserError(f"This model needs `context` with {width} channels.")
            if value is not None and tuple(value.shape[:2]) != (num, width):
                raise UserError(
                    f"`{name}` must begin with shape [{num}, {width}], found {list(value.shape)}."
                )
        return Conditions(label_tensor(label, num, info.num_classes), scalars, context)


def load(
    path: str | Path,
    *,
    weights: str | None = None,
    step: int | None = None,
    device: Device = "auto",
    say: Say = print,
) -> TrainedModel:
    """The model of a run folder or an export.

    `weights` names an EMA or `model` (default: as the recipe says), `step` a checkpoint (default:
    the newest). Raises UserError if it is not there.
    """
    folder = RunFolder.open(path)
    return _load(folder, folder.recipe(), weights, step, device, say)


def _load(
    folder: RunFolder,
    recipe: Recipe,
    weights: str | None,
    step: int | None,
    device: Device,
    say: Say,
) -> TrainedModel:
    chosen, info = choose_device(device), folder.info()
    patcher = make_patcher(recipe, info, folder.statistics(), chosen)
    tensors = read_weights(folder, weights, step, say)
    network = materialize(make_network(recipe, info, patcher), chosen)
    take_over(network, tensors, str(folder.path))
    sampler = Sampler(network.eval(), patcher, recipe.flow, info, chosen, recipe.train.precision)
    return TrainedModel(recipe, sampler)


def load_with(
    path: str | Path, overrides: Sequence[str], step: int | None, say: Say
) -> tuple[RunFolder, TrainedModel]:
    """As `load`, with `key=value` laid over the run's recipe.

    Raises UserError for keys that would make the model, or its held-out data, another.
    """
    folder = RunFolder.open(path)
    before = folder.recipe()
    content = before.plain()
    for override in overrides:
        content = apply_override(content, override)
    recipe = parse_recipe(content, str(path))
    for key in ("seed", "model", "flow", "adapter", "standardization"):
        if getattr(recipe, key) != getattr(before, key):
            raise UserError(
                f"`{key}` belongs to the training of {path}; it cannot be changed here."
            )
    if before.holdout and recipe.holdout and before.holdout.fraction != recipe.holdout.fraction:
        raise UserError(
            f"{path} was trained with `holdout.fraction` {before.holdout.fraction}: with another, "
            "training data would pass for held-out data."
        )
    weights = None if folder.is_export else recipe.sample.weights
    return folder, _load(folder, recipe, weights, step, recipe.train.device, say)


def _real_data(data: Data) -> Subset:
    return data.holdout or data.train


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
    writer = settings.writer or load_plugin("writers", info.writer)()
    conditions = draw_conditions(
        info, settings.num_samples, settings.labels, lambda: _real_data(open_data(model.recipe))
    )
    _clear_for_samples(target)
    write_text(target / SETTINGS_FILE, _how_drawn(folder, model, step))
    shown, done = [], 0
    for batch in draw_all(model.sampler, settings.num_samples, conditions, settings):
        part = slice(done, done + len(batch))
        labels = conditions[part].label
        _write(writer, batch, target, info, done, None if labels is None else labels.tolist())
        shown += [batch[: max(MAX_SHOWN - done, 0)]]
        done = part.stop
        if progress:
            progress(done, settings.num_samples)
    samples = torch.cat(shown).numpy()
    label = conditions[: len(samples)].label
    image = picture.draw_samples(samples, info, None if label is None else label.tolist())
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


def _how_drawn(folder: RunFolder, model: TrainedModel, step: int | None) -> str:
    """What is needed to have the same samples again, as JSON."""
    facts = {"run": str(folder.path), "step": step if step is not None else "newest"}
    return json.dumps(facts | {"sample": model.recipe.sample.model_dump(mode="json")}, indent=1)


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
        Setting(model.sampler.info, recipe.adapter, moments.mean, moments.std),
        _evaluators(recipe),
    )
    score_report.write(scores, folder.scores)
    return scores


def export(
    path: str | Path,
    out: Path,
    *,
    weights: str | None = None,
    step: int | None = None,
    say: Say = print,
) -> Path:
    """One set of weights as safetensors, with all that is needed to load it, in a new folder."""
    folder = RunFolder.open(path)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is there already and not empty; give another folder.")
    tensors = read_weights(folder, weights, step, say)
    out.mkdir(parents=True, exist_ok=True)
    for name in DESCRIPTION:
        if (folder.path / name).is_file():
            shutil.copyfile(folder.path / name, out / name)
    facts = {
        "format": "rawdiff",
        "weights": weights or default_weights(folder),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    save_file(tensors, out / EXPORT_WEIGHTS, metadata=facts)
    say(f"{out} holds {EXPORT_WEIGHTS} ({facts['weights']}) and what is needed to load it.")
    return out
