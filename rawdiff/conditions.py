"""What samples are drawn for: labels, scalars, context, and what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from rawdiff.data.dataset import Array, Batch, DataInfo, collate
from rawdiff.data.loading import Subset
from rawdiff.data.template import Template, Wanted
from rawdiff.errors import UserError

Labels: TypeAlias = int | Sequence[int] | Tensor | None


@dataclass(frozen=True)
class Conditions:
    """What B samples are drawn for, in data units, as far as the data have it.

    label [B], scalars [B, S], context [B, C', …]; place [B, A, …] and `there` (bool [B, C, …])
    where samples differ in them; known values x [B, C, …] (NaN elsewhere), of which those in
    `keep` (bool [B, C, …]) come out exactly. `observed` [B, …] is what an operator gives of them.
    """

    label: Tensor | None = None
    scalars: Tensor | None = None
    context: Tensor | None = None
    place: Tensor | None = None
    there: Tensor | None = None
    x: Tensor | None = None
    keep: Tensor | None = None
    observed: Tensor | None = None

    def __getitem__(self, part: slice) -> Conditions:
        return self._map(lambda tensor: tensor[part])

    def to(self, device: torch.device) -> Conditions:
        return self._map(lambda tensor: tensor.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def _map(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        return Conditions(**{name: function(part) for name, part in self.tensors().items()})


def spread(num: int, length: int) -> list[int]:
    """`num` indices spread evenly over 0 … length - 1; all of them if there are no more."""
    num = min(num, length)
    return [i * length // num for i in range(num)]


def real_batch(subset: Subset, positions: Sequence[int]) -> Batch:
    """Real samples, in data units and as they are learned."""
    return subset.render(collate(subset.get_batch(positions), positions))


def conditions_of(batch: Batch, info: DataInfo) -> Conditions:
    """What samples like these real ones are drawn for."""
    return Conditions(
        label=label_tensor(batch.label, len(batch), info.num_classes),
        scalars=batch.scalars,
        context=batch.context,
        place=batch.place,
        there=~batch.x.isnan() if info.sizes_vary else None,
    )


def labels_in_turn(
    num_samples: int, num_classes: int, labels: Sequence[int] | None
) -> Tensor | None:
    """Labels [n] that take turns: those given, or all classes. None without classes.

    UserError for a label that does not exist, or any where there are no classes.
    """
    if not num_classes:
        return label_tensor(labels, num_samples, num_classes)
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
    template: Template | None = None,
) -> Conditions:
    """Conditions for new samples: labels take turns; all else is that of real data.

    A template says instead what samples are like, but for labels where it gives none. `real` opens
    the data; it is called only if they are needed. `part` gives the conditions of some of the
    samples, and reads no others.
    """
    label = labels_in_turn(num_samples, info.num_classes, labels)
    label = None if label is None else label[part]
    indices = range(num_samples)[part]
    if template is not None:
        return _wanted([template.wanted(i, info, real) for i in indices], info, label)
    if not info.are_told:
        return Conditions(label)
    subset = real()
    positions = spread(num_samples, len(subset))
    own = conditions_of(real_batch(subset, [positions[i % len(positions)] for i in indices]), info)
    return Conditions(**(own.tensors() | ({} if label is None else {"label": label})))


def _wanted(samples: Sequence[Wanted], info: DataInfo, label: Tensor | None) -> Conditions:
    """What a template wants, as one batch. UserError where it does not fit the data."""
    shapes: dict[str, tuple[int, ...]] = {
        "x": info.shape,
        "keep": info.shape,
        "there": info.shape,
        "place": (len(info.place_names), *info.shape[1:]),
        "scalars": (len(info.scalar_names),),
        "context": (info.num_context_channels, *info.shape[1:]),
    }
    needed = {
        "place": bool(info.place_names),
        "there": info.sizes_vary,
        "context": info.num_context_channels > 0,
    }
    tensors = {} if label is None else {"label": label}
    if label is not None and all(sample.label is not None for sample in samples):
        tensors["label"] = torch.tensor([sample.label for sample in samples])
    for field in fields(Wanted):
        if field.name == "label":
            continue
        values = [getattr(sample, field.name) for sample in samples]
        if all(value is None for value in values):
            if needed.get(field.name):
                raise UserError(
                    f"The template says nothing of `{field.name}`, which this model needs."
                )
            continue
        tensors[field.name] = _stacked(field.name, values, shapes[field.name])
    return Conditions(**tensors)


def _stacked(name: str, values: Sequence[Array | None], shape: tuple[int, ...]) -> Tensor:
    arrays = [np.asarray(value) for value in values]
    for array in arrays:
        if array.shape != shape:
            raise UserError(
                f"A template's `{name}` has shape {array.shape} instead of {shape}, that of the "
                "model's data."
            )
    return torch.from_numpy(np.stack(arrays))
