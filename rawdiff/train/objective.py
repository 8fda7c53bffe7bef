"""The loss of a batch: raw samples in, squared errors out, all randomness keyed by place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from rawdiff import philox
from rawdiff.data.dataset import Batch
from rawdiff.data.loading import Subset
from rawdiff.data.patcher import Patcher, Patches
from rawdiff.flow import loss as flow_loss
from rawdiff.flow.precondition import precondition
from rawdiff.flow.settings import FlowSettings
from rawdiff.model.network import DropoutKey, Network
from rawdiff.parallel.apply import compiled, is_compiled
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.precision import autocast
from rawdiff.recipe import Recipe


@dataclass
class _Draws:
    """Uniform numbers of each sample, one after another: no two calls give the same ones."""

    seed: int
    index: Tensor
    num_drawn: int = 0

    def __call__(self, num: int) -> Tensor:
        before, self.num_drawn = self.num_drawn, self.num_drawn + num
        stream = philox.Stream.AUGMENT
        return philox.uniform(self.seed, stream, self.index, self.num_drawn)[:, before:]


@dataclass(frozen=True)
class Prepared:
    """A micro-batch on the device, cut into patches."""

    patches: Patches
    index: Tensor
    label: Tensor | None
    told_label: Tensor | None
    """What the network is told: the label, or at times that there is none."""


@dataclass(frozen=True)
class Errors:
    """What is minimized, summed over the samples; of each sample its mean squared error [B].

    Squared errors are weighted, and stand at the sample's time t [B].
    """

    total: Tensor
    per_sample: Tensor
    t: Tensor


@dataclass(frozen=True)
class _Kernels:
    """What is done to every value outside of the network, and the seed as they take it."""

    seed: int | Tensor
    draw_noise: Callable[..., Tensor]
    interpolate: Callable[..., flow_loss.Noised]
    squared_error: Callable[..., Tensor]


@dataclass(frozen=True)
class Objective:
    """What a run minimizes."""

    recipe: Recipe
    patcher: Patcher
    train: Subset
    device: torch.device

    @cached_property
    def flow(self) -> FlowSettings:
        return self.recipe.flow.resolved(self.train.info.shape)

    @cached_property
    def _kernels(self) -> _Kernels:
        """Compiled where the network is."""
        seed = self.recipe.seed
        functions = (flow_loss.draw_noise, flow_loss.interpolate, flow_loss.squared_error)
        if not is_compiled(self.recipe.parallel, self.device):
            return _Kernels(seed, *functions)
        fast = [compiled(function) for function in functions]
        return _Kernels(torch.tensor(seed, device=self.device), *fast)

    def prepare(self, batch: Batch) -> Prepared:
        """Raw micro-batch to the device, augmented and cut into patches."""
        batch = batch.to(self.device)
        seed, index = self.recipe.seed, batch.index
        batch = self.train.render(self.train.augment(batch, _Draws(seed, index)))
        told = batch.label
        if told is not None:
            no_label = self.train.info.num_classes
            told = flow_loss.drop_labels(told, no_label, self.flow, seed, index)
        return Prepared(self.patcher.patches(batch), index, batch.label, told)

    def weight(self, batch: Batch, processes: Processes = ALONE) -> float:
        """The weight of all values of a whole batch, over the processes that share it.

        The loss is the sum of errors over it. Taken of the raw batch, before any of it goes to the
        device; processes talk only where values may be missing or weighted.
        """
        if self.patcher.all_known and batch.weight is None:
            return float(len(batch) * math.prod(self.patcher.shape) * processes.count)
        batch = self.train.render(batch)  # nothing is added to what is there by augmentation
        present = (~batch.x.isnan()).double()
        if batch.weight is not None:
            present *= batch.weight
        return float(processes.sum(present.sum()))

    def add_noise(self, prepared: Prepared) -> flow_loss.Noised:
        """Each sample of a micro-batch at its own time."""
        patches, index, kernels = prepared.patches, prepared.index, self._kernels
        eps = kernels.draw_noise(patches.x, self.flow, kernels.seed, index)
        eps = self.patcher.project(eps, patches.known)
        t = flow_loss.draw_times(self.flow, self.recipe.seed, index)
        return kernels.interpolate(patches.x, eps, t)

    def errors(self, network: Network, prepared: Prepared, noised: flow_loss.Noised) -> Errors:
        """Errors of the network's prediction for one micro-batch."""
        patches, recipe = prepared.patches, self.recipe
        with autocast(recipe.train.precision, self.device):
            output = network(
                noised.z_t if patches.known is None else noised.z_t * patches.known,
                noised.t,
                prepared.told_label,
                scalars=patches.scalars,
                extra=patches.extra,
                present=patches.present,
                positions=patches.positions,
                dropout=DropoutKey(recipe.seed, prepared.index),
                class_logits=network.has_class_head,
            )
        class_loss: Tensor | float = 0.0
        if network.has_class_head:
            output, logits = output
            assert prepared.label is not None
            entropy = F.cross_entropy(logits.float(), prepared.label, reduction="sum")
            class_loss = recipe.train.class_loss_weight * entropy
        prediction = precondition(output, noised.z_t, noised.t, self.flow)
        errors = self._kernels.squared_error(prediction, noised, self.flow).flatten(1)
        if patches.weight is None:
            return Errors(errors.sum() + class_loss, errors.detach().mean(1), noised.t)
        weight = patches.weight.flatten(1)
        errors = errors * weight
        mean = errors.detach().sum(1) / weight.sum(1).clamp(min=1e-12)
        return Errors(errors.sum() + class_loss, mean, noised.t)
