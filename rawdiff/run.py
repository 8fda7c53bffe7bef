"""A trained model, loaded from a run or an export: predict, sample, score, write, export."""

from __future__ import annotations

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
from rawdiff.assemble import Data, make_network, make_patcher, materialize, open_data
from rawdiff.conditions import (
    Conditions,
    Labels,
    conditions_of,
    draw_conditions,
    label_tensor,
    spread,
)
from rawdiff.data.dataset import Batch, collate
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import measure
from rawdiff.errors import UserError
from rawdiff.evaluate import report as score_report
from rawdiff.evaluate.evaluator import Evaluator, Setting
from rawdiff.plugins import load_plugin, plugins
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import apply_override, parse_recipe
from rawdiff.sampling import Sampler, SampleSettings, draw_all
from rawdiff.train.folder import DESCRIPTION, EXPORT_WEIGHTS, RunFolder
from rawdiff.train.weights import default_weights, read_weights, take_over

Report = Callable[[str], None]
Progress = Callable[[int, int], None]
"""progress(done, total), in samples."""


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
    device: str = "auto",
    report: Report = print,
) -> TrainedModel:
    """The model of a run folder or an export.

    `weights` names an EMA or `model` (default: as the recipe says), `step` a checkpoint (default:
    the newest). Raises UserError if it is not there.
    """
    folder = RunFolder.open(path)
    return _load(folder, folder.recipe(), weights, step, device, report)


def _load(
    folder: RunFolder,
    recipe: Recipe,
    weights: str | None,
    step: int | None,
    device: Any,
    report: Report,
) -> TrainedModel:
    info, patcher = folder.info(), make_patcher(recipe, folder.info(), folder.statistics())
    chosen = choose_device(device)
    tensors = read_weights(folder, weights, step, report)
    network = materialize(make_network(recipe, info, patcher), chosen, recipe.seed)
    take_over(network, tensors, str(folder.path))
    sampler = Sampler(network.eval(), patcher, recipe.flow, info, chosen, recipe.train.precision)
    return TrainedModel(recipe, sampler)


def load_with(
    path: str | Path, overrides: Sequence[str], step: int | None, report: Report
) -> tuple[RunFolder, TrainedModel]:
    """As `load`, with `key=value` laid over the run's recipe."""
    folder = RunFolder.open(path)
    content = folder.recipe().plain()
    for override in overrides:
        content = apply_override(content, override)
    recipe = parse_recipe(content, str(path))
    weights = None if folder.is_export else recipe.sample.weights
    return folder, _load(folder, recipe, weights, step, recipe.train.device, report)


def _real_data(data: Data) -> Subset:
    return data.holdout or data.train


def sample_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    step: int | None = None,
    report: Report = print,
    progress: Progress | None = None,
) -> Path:
    """Draw `sample.num_samples` samples, write the field's own files and a picture.

    Returns the folder with them: `out`, or `samples` in the run.
    """
    folder, model = load_with(path, overrides, step, report)
    settings, info = model.recipe.sample, model.sampler.info
    conditions = draw_conditions(
        info, settings.num_samples, settings.labels, lambda: _real_data(open_data(model.recipe))
    )
    samples = model.sample(
        settings.num_samples,
        None if conditions.label is None else conditions.label.tolist(),
        settings.seed,
        scalars=conditions.scalars,
        context=conditions.context,
        progress=progress,
    ).numpy()
    target = folder.samples if out is None else out
    labels = None if conditions.label is None else conditions.label.tolist()
    writer = load_plugin("writers", settings.writer or info.writer)()
    target.mkdir(parents=True, exist_ok=True)
    writer.write(samples, target, info=info, labels=labels)
    picture.save_png(picture.draw_samples(samples, info, labels), target / "picture.png")
    report(f"{len(samples)} samples and picture.png are in {target}.")
    return target


def _evaluators(recipe: Recipe) -> dict[str, Evaluator]:
    """Those that the recipe names, else all that are installed."""
    chosen = recipe.evaluate.evaluators
    if chosen is None:
        chosen = {plugin.name: {} for plugin in plugins("evaluators")}
    return {name: load_plugin("evaluators", name)(**keys) for name, keys in chosen.items()}


def evaluate_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    step: int | None = None,
    report: Report = print,
    progress: Progress | None = None,
) -> score_report.Report:
    """Score new samples and, beside them, real held-out data; writes `scores.json` into the run.

    Samples are drawn for the labels, scalars and context of the held-out data, as many as there
    are, `evaluate.num_samples` at most.
    """
    folder, model = load_with(path, overrides, step, report)
    recipe = model.recipe
    data = open_data(recipe)
    if data.holdout is None:
        raise UserError(
            "A score says nothing without that of real held-out data beside it, and this recipe "
            "holds none out. Give some: `holdout.data.path=…` at the end of this command, or "
            "`holdout: {fraction: 0.1}` in the recipe before training."
        )
    positions = spread(recipe.evaluate.num_samples, len(data.holdout))
    conditions = conditions_of(data.holdout, positions)
    generated = model.sample(
        len(positions),
        conditions.label,
        recipe.sample.seed,
        scalars=conditions.scalars,
        context=conditions.context,
        progress=progress,
    )
    reference = _values(data.train, spread(recipe.evaluate.num_reference, len(data.train)))
    moments = measure([reference]).x
    setting = Setting(model.sampler.info, recipe.adapter, moments.mean, moments.std)
    scores = score_report.evaluate(
        generated,
        _values(data.holdout, positions).x.float(),
        reference.x.float(),
        setting,
        _evaluators(recipe),
    )
    score_report.write(scores, folder.scores)
    return scores


def _values(subset: Subset, positions: Sequence[int]) -> Batch:
    """Real samples, in data units."""
    return collate(subset.get_batch(positions), positions)


def export(
    path: str | Path,
    out: Path,
    *,
    weights: str | None = None,
    step: int | None = None,
    report: Report = print,
) -> Path:
    """One set of weights as safetensors, with all that is needed to load it, in a new folder."""
    folder = RunFolder.open(path)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is there already and not empty; give another folder.")
    tensors = read_weights(folder, weights, step, report)
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
    report(f"{out} holds {EXPORT_WEIGHTS} ({facts['weights']}) and what is needed to load it.")
    return out
