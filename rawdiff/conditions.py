"""What samples are drawn for: labels, scalars and context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from rawdiff.data.dataset import Batch, DataInfo, collate
from rawdiff.data.loading import Subset
from rawdiff.errors import UserError

Labels: TypeAlias = int | Sequence[int] | Tensor | None


@dataclass(frozen=True)
class Conditions:
    """label [B], scalars [B, S] and context [B, C', …] in data units, where the data have them."""

    label: Tensor | None = None
    scalars: Tensor | None = None
    context: Tensor | None = None

    def __getitem__(self, part: slice) -> Conditions:
        return self._map(lambda tensor: tensor[part])

    def to(self, device: torch.device) -> Conditions:
        return self._map(lambda tensor: tensor.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def _map(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        parts = (self.label, self.scalars, self.context)
        return Conditions(*(None if part is None else function(part) for part in parts))


def spread(num: int, length: int) -> list[int]:
    """`num` indices spread evenly over 0 … length - 1; all of them if there are no more."""
    num = min(num, length)
    return [i * length // num for i in range(num)]


def real_batch(subset: Subset, positions: Sequence[int]) -> Batch:
    """Real samples, in data units."""
    return collate(subset.get_batch(positions), positions)


def labels_in_turn(
    num_samples: int, num_classes: int, labels: Sequence[int] | None
) -> Tensor | None:
    """Labels [n] that take turns: those given, or all classes. None without classes."""
    if not num_classes:
        return None
    chosen = torch.tensor(list(range(num_classes) if labels is None else labels))
    in_turn = chosen[torch.arange(num_samples) % len(chosen)]
    return label_tensor(in_turn, num_samples, num_classes)


def label_tensor(label: Labels, num_samples: int, num_classes: int) -> Tensor | None:
    """One label for each sample, int64 [n]; None stands for no label.

    A single label serves all samples. UserError for a label that does not exist.
    """
    if label is None:
        return torch.full((num_samples,), num_classes) if num_classes else None
    if not num_classes:
        raise UserError("Labels were given, but this model was trained without labels.")
    try:
        labels = torch.as_tensor(label).flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"Labels must be whole numbers, found {label!r:.60}.") from error
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"Labels must be whole numbers, found {label!r:.60}.")
    labels = labels.long()
    if len(labels) not in (1, num_samples):
        raise UserError(f"{len(labels)} labels for {num_samples} samples; give one for each.")
    wrong = labels[(labels < 0) | (labels > num_classes)]
    if len(wrong):
        raise UserError(
            f"Label {int(wrong[0])} does not exist: there are {num_classes} classes, numbered "
            f"from 0; {num_classes} means none."
        )
    return labels.expand(num_samples)


def draw_conditions(
    info: DataInfo,
    num_samples: int,
    labels: Sequence[int] | None,
    real: Callable[[], Subset],
    part: slice = slice(None),
) -> Conditions:
    """Conditions for new samples: labels take turns; scalars and context are those of real data.

    `real` opens the data; it is called only if they are needed. `part` gives those of some of
    the samples, and reads no others.
    """
    label = labels_in_turn(num_samples, info.num_classes, labels)
    label = None if label is None else label[part]
    if not info.scalar_names and not info.num_context_channels:
        return Conditions(label)
    subset = real()
    positions = spread(num_samples, len(subset))
    chosen = [positions[i % len(positions)] for i in range(num_samples)[part]]
    own = real_batch(subset, chosen)
    return Conditions(label, own.scalars, own.context)
