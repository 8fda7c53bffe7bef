"""The loss of a batch: raw samples in, squared errors out, all randomness keyed by place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff import philox
from rawdiff.data.dataset import Batch
from rawdiff.data.loading import Subset
from rawdiff.data.patcher import Patcher, Patches
from rawdiff.flow import loss as flow_loss
from rawdiff.model.layers import DropoutKey
from rawdiff.model.transformer import Transformer
from rawdiff.precision import autocast
from rawdiff.recipe import Recipe


@dataclass(frozen=True)
class Prepared:
    """A micro-batch on the device, cut into patches."""

    patches: Patches
    index: Tensor
    label: Tensor | None


@dataclass(frozen=True)
class Errors:
    """Weighted squared errors: their sum, and for each sample its mean [B] at its time t [B]."""

    total: Tensor
    per_sample: Tensor
    t: Tensor


@dataclass(frozen=True)
class Objective:
    """What a run minimizes."""

    recipe: Recipe
    patcher: Patcher
    train: Subset
    device: torch.device

    def prepare(self, batch: Batch) -> Prepared:
        """Raw micro-batch to the device, augmented and cut into patches."""
        batch = batch.to(self.device)
        seed, index = self.recipe.seed, batch.index
        batch = self.train.augment(
            batch, lambda num: philox.uniform(seed, philox.Stream.AUGMENT, index, num)
        )
        label = batch.label
        if label is not None:
            no_label = self.train.info.num_classes
            label = flow_loss.drop_labels(label, no_label, self.recipe.flow, seed, index)
        return Prepared(self.patcher.patches(batch), index, label)

    def weight(self, prepared: list[Prepared]) -> Tensor:
        """The weight of all values of all micro-batches; the loss is the sum over this."""
        parts = [p.patches for p in prepared]
        sums = [p.x.new_tensor(p.x.numel()) if p.weight is None else p.weight.sum() for p in parts]
        return torch.stack(sums).sum()

    def add_noise(self, prepared: Prepared) -> flow_loss.Noised:
        """Each sample of a micro-batch at its own time."""
        recipe = self.recipe
        return flow_loss.add_noise(prepared.patches.x, recipe.flow, recipe.seed, prepared.index)

    def errors(self, network: Transformer, prepared: Prepared, noised: flow_loss.Noised) -> Errors:
        """Errors of the network's prediction for one micro-batch."""
        patches, recipe = prepared.patches, self.recipe
        with autocast(recipe.train.precision, self.device):
            output = network(
                noised.z_t if patches.known is None else noised.z_t * patches.known,
                noised.t,
                prepared.label,
                scalars=patches.scalars,
                extra=patches.extra,
                present=patches.present,
                dropout=DropoutKey(recipe.seed, prepared.index),
            )
        errors = flow_loss.squared_error(output, noised, recipe.flow).flatten(1)
        if patches.weight is None:
            return Errors(errors.sum(), errors.detach().mean(1), noised.t)
        weight = patches.weight.flatten(1)
        errors = errors * weight
        mean = errors.detach().sum(1) / weight.sum(1).clamp(min=1e-12)
        return Errors(errors.sum(), mean, noised.t)
