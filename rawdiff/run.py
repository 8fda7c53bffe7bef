"""A trained model, loaded from a run or an export: predict and sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from pydantic import ValidationError
from torch import Tensor

from rawdiff.assemble import (
    make_network,
    make_patcher,
    materialize,
    open_data,
)
from rawdiff.averages.weights import Weights, read_weights, take_over
from rawdiff.conditions import (
    Conditions,
    Labels,
    draw_conditions,
    label_tensor,
)
from rawdiff.data.dataset import Array
from rawdiff.data.template import Template
from rawdiff.density import log_density
from rawdiff.errors import UserError
from rawdiff.explain import explain
from rawdiff.model.network import Network
from rawdiff.parallel.apply import compile_parts
from rawdiff.precision import Device, choose_device
from rawdiff.recipe import Recipe
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler, draw_all
from rawdiff.saved.folder import RunFolder
from rawdiff.tuned import choose, tuned_recipe

Say = Callable[[str], None]
ArrayLike: TypeAlias = Tensor | Array | None
Progress = Callable[[int, int], None]
"""progress(done, total), in samples."""
ELSEWHERE = {
    "weights": "`rawdiff.load(RUN, weights=…)` chooses them",
    "labels": "`label` is the class of all samples, or one for each",
    "writer": "`rawdiff sample` writes files",
    "num_frames": "`rawdiff sample` writes them",
}
"""Keys of `sample:` that say nothing of the samples of a loaded model, and what does."""


@dataclass(frozen=True)
class TrainedModel:
    """Draws samples and predicts, with the settings of the run that it comes from."""

    recipe: Recipe
    sampler: Sampler
    origin: dict[str, Any]
    """Run, name of the weights, step: what is needed to load it again."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (C, …)."""
        return self.sampler.info.shape

    def predict(
        self,
        z_t: Tensor | Array,
        t: Tensor | Array | float,
        label: Labels = None,
        scalars: ArrayLike = None,
        context: ArrayLike = None,
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
        if not bool(((times >= 0) & (times <= 1)).all()):
            raise UserError("Times t lie between 0 (noise) and 1 (data).")
        conditions = self._conditions(len(z_t), label, scalars, context)
        return self.sampler.predict(z_t, times.expand(len(z_t)), conditions)

    def sample(
        self,
        num_samples: int,
        label: Labels = None,
        seed: int = 0,
        *,
        scalars: ArrayLike = None,
        context: ArrayLike = None,
        observe: ArrayLike = None,
        operator: Any = "mask",
        method: Any = "mmps",
        noise_std: float | Sequence[float] | None = None,
        first_index: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Tensor:
        """New samples [n, C, …] in data units, float32 on the CPU; NaN where data are never known.

        label is one class for all, or [n]; None means none. `settings` replace keys of the
        recipe's `sample:` (solver, num_steps, cfg_scale, …). Sample number i depends on the seed
        and i alone: ten samples from `first_index=90` are the last ten of a hundred. A `template`
        says what else they are like; data whose samples differ in size need one.

        With `observe`, what was observed in data units (of all, or [n, …]; NaN where nothing was
        seen), they agree with it: `operator` is a function of samples [B, C, …] in data units, or
        names what was observed, `method` how samples are found, `noise_std` the spread of the
        observation's noise. Keys of theirs go with a name: {"name": "coarsen", "factor": 4}.
        """
        if not isinstance(num_samples, int) or num_samples < 0:
            raise UserError(f"num_samples must be a whole number from 0 on, found {num_samples!r}.")
        for key in ELSEWHERE.keys() & settings.keys():
            raise UserError(f"`{key}` is no argument of `model.sample`: {ELSEWHERE[key]}.")
        if observe is None and (operator, method, noise_std) != ("mask", "mmps", None):
            raise UserError(
                "`operator`, `method` and `noise_std` are of an observation; give it as `observe`."
            )
        if observe is not None:
            observed = {"operator": operator, "method": method, "noise_std": noise_std}
            settings = settings | {"observe": observed}
        chosen = self._settings(settings | {"seed": seed})
        for key in ("compile", "guide"):
            if getattr(chosen, key) != getattr(self.recipe.sample, key):
                raise UserError(
                    f"`{key}` is settled when a model is loaded: write it under `sample:` in the "
                    f"recipe of its folder, or draw with `rawdiff sample RUN sample.{key}=…`."
                )
        if chosen.between is not None:  # the share of each follows from how many there are
            chosen = chosen.model_copy(update={"num_samples": first_index + num_samples})
        if chosen.template is None:
            self._require_one_size()
            conditions = self._conditions(num_samples, label, scalars, context)
        else:
            wanted = self._wanted(chosen.template, first_index, num_samples)
            told = self._told(num_samples, label, scalars, context)
            conditions = replace(wanted, **told)
        chosen, conditions = self.sampler.observing(chosen, conditions, num_samples, observe)
        batches, done = [], 0
        for batch in draw_all(
            self.sampler, num_samples, conditions, chosen, first_index=first_index
        ):
            batches.append(batch)
            done += len(batch)
            if progress:
                progress(done, num_samples)
        return torch.cat(batches) if batches else torch.empty(0, *self.shape)

    def log_likelihood(
        self,
        x: Tensor | Array,
        label: Labels = None,
        seed: int = 0,
        *,
        scalars: ArrayLike = None,
        context: ArrayLike = None,
        num_probes: int = 1,
        cut: float | None = None,
        first_index: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Tensor:
        """log p of samples x [n, C, …] in nats, in data units: float64 [n] on the CPU.

        Whole numbers (an integer dtype) get uniform noise of one level. `settings` replace keys of
        the recipe's `sample:`, of which `num_steps` and `batch_size` act. Noise and probes of
        sample number i, from `first_index` on, depend on the seed and i alone. The divergence is
        estimated with `num_probes`; as many as a sample has values give it exactly. `cut` is the
        1 - t at which the model is taken (default: `flow.t_eps`).
        """
        x = torch.as_tensor(x)
        if x.dim() == 0 or x.shape[1:] != self.shape:
            raise UserError(
                f"x must have shape [n, {', '.join(map(str, self.shape))}], found {list(x.shape)}."
            )
        if self.sampler.info.place_names:
            raise UserError(
                "Samples of this model differ in place, which `log_likelihood` is not told. "
                "`rawdiff likelihood RUN` takes held-out samples with theirs."
            )
        if not isinstance(num_probes, int) or num_probes < 1:
            raise UserError(f"num_probes must be a whole number from 1 on, found {num_probes!r}.")
        chosen = self._settings(settings | {"seed": seed})
        conditions = self._conditions(len(x), label, scalars, context)
        found = [torch.empty(0, dtype=torch.float64)]
        for start in range(0, len(x), chosen.batch_size):
            part = slice(start, min(start + chosen.batch_size, len(x)))
            index = first_index + torch.arange(part.start, part.stop)
            own = conditions[part]
            found.append(log_density(self.sampler, x[part], index, own, chosen, num_probes, cut))
            if progress:
                progress(part.stop, len(x))
        return torch.cat(found)

    def _settings(self, given: dict[str, Any]) -> SampleSettings:
        """The recipe's, with others laid over them; UserError where they are wrong."""
        try:
            return SampleSettings(**(self.recipe.sample.model_dump() | given))
        except ValidationError as error:
            raise UserError("; ".join(explain(error, SampleSettings))) from None

    def _require_one_size(self) -> None:
        if self.sampler.info.sizes_vary or self.sampler.info.place_names:
            raise UserError(
                "Samples of this model differ in size or place. Say what new ones are to be like, "
                "such as template='given' for those of held-out data (which must be there), or "
                "template={'name': 'chains', 'lengths': [64]} for backbones."
            )

    def _wanted(self, template: Template, first: int, num: int) -> Conditions:
        """What a template says of samples number first … first + num - 1."""
        numbers, info = slice(first, first + num), self.sampler.info
        return draw_conditions(
            info, first + num, None, lambda: open_data(self.recipe).real, numbers, template
        )

    def _conditions(
        self, num: int, label: Labels, scalars: ArrayLike, context: ArrayLike
    ) -> Conditions:
        info = self.sampler.info
        if context is None and info.num_context_channels:
            raise UserError(
                f"This model needs `context` with {info.num_context_channels} channels."
            )
        none = Conditions(label_tensor(None, num, info.num_classes))
        return replace(none, **self._told(num, label, scalars, context))

    def _told(
        self, num: int, label: Labels, scalars: ArrayLike, context: ArrayLike
    ) -> dict[str, Tensor]:
        """What the caller says of the samples, as fields of their conditions."""
        info = self.sampler.info
        told = {
            "label": None if label is None else label_tensor(label, num, info.num_classes),
            "scalars": _given("scalars", scalars, (num, len(info.scalar_names))),
            "context": _given(
                "context", context, (num, info.num_context_channels, *self.shape[1:])
            ),
        }
        return {name: values for name, values in told.items() if values is not None}


def _given(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Tensor | None:
    """Values as a tensor; UserError unless they have the shape that the model needs."""
    if values is None:
        return None
    tensor = torch.as_tensor(values)
    if tuple(tensor.shape) != shape:
        raise UserError(f"`{name}` must have shape {list(shape)}, found {list(tensor.shape)}.")
    return tensor


def load(
    path: str | Path,
    *,
    weights: str | None = None,
    step: int | None = None,
    device: Device = "auto",
    say: Say = print,
) -> TrainedModel:
    """The model of a run folder or an export.

    `weights` names an EMA or `model` (default: what `rawdiff tune` found, or as the recipe says),
    `step` a checkpoint (default: the newest). Raises UserError if it is not there.
    """
    folder = RunFolder.open(path)
    recipe, weights = choose(folder, weights, say)
    return _load(folder, recipe, weights, step, device, say)


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

    def network_of(found: Weights) -> Network:
        network = materialize(make_network(recipe, info, patcher), chosen)
        take_over(network, found.tensors, str(folder.path))
        if recipe.sample.compile:
            compile_parts(network)
        return network.eval()

    found = read_weights(folder, weights, step, say)
    network, guide = network_of(found), None
    if recipe.sample.guide is not None:
        guide = network_of(_read_guide(folder, recipe.sample.guide, found.step, say))
    flow, precision = recipe.flow.resolved(info.shape), recipe.train.precision
    sampler = Sampler(network, patcher, flow, info, chosen, precision, guide)
    origin = {"run": str(folder.path), "weights": found.name, "step": found.step}
    return TrainedModel(recipe, sampler, origin)


def _read_guide(folder: RunFolder, guide: str, step: int, say: Say) -> Weights:
    """The weights that `sample.guide` names, by default of this step. UserError without them."""
    name, _, other_step = guide.partition("@")
    if other_step and not other_step.isdecimal():
        raise UserError(
            f"`sample.guide: {guide}` names no step after the @; write `{name}@{step}` for that of "
            f"step {step}."
        )
    return read_weights(folder, name or None, int(other_step) if other_step else step, say)


def load_with(
    path: str | Path, overrides: Sequence[str], step: int | None, say: Say
) -> tuple[RunFolder, TrainedModel]:
    """As `load`, with `key=value` laid over the run's recipe and its tuned settings.

    Raises UserError for keys that would make the model, or its held-out data, another.
    """
    folder = RunFolder.open(path)
    before = folder.recipe()
    recipe = tuned_recipe(folder, overrides, say)
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
