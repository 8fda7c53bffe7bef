"""What a skipped step looks like from inside: which gradients, which samples, at which times."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rawdiff.data.dataset import Batch
from rawdiff.data.order import SampleOrder
from rawdiff.files import write_text
from rawdiff.parallel.apply import whole
from rawdiff.saved.folder import RunFolder
from rawdiff.train.state import StepSums
from rawdiff.train.step import Training

MOST_NAMED = 5
FAR = 1000  # times the usual loss, that of a sample is suspect


@dataclass(frozen=True)
class Diagnosis:
    """Of one step. Not taken because of its samples, of its weights, or of the machine.

    `samples` have their `place` in the run, their `index` in the dataset, their time `t` and their
    mean squared error `loss`.
    """

    step: int
    skipped_in_a_row: int
    skipped: int
    loss: float
    grad_norm: float
    usual_grad_norm: float
    harmless_when_run_again: bool
    gradient_norms: dict[str, float]
    samples: list[dict[str, Any]]

    @property
    def worst_samples(self) -> list[dict[str, Any]]:
        """The largest losses first, and before them those that are no number."""
        return sorted(self.samples, key=lambda s: (not math.isnan(s["loss"]), -s["loss"]))

    def write(self, folder: RunFolder) -> None:
        write_text(folder.diagnosis, json.dumps(without_nan(vars(self)), indent=1, allow_nan=False))

    def __str__(self) -> str:
        """In a few sentences, with the usual cure."""
        return (
            f"The {self.skipped_in_a_row} steps up to step {self.step} were skipped: their loss or "
            f"gradient was not finite, or far too large (here: loss {self.loss:.4g}, gradient norm "
            f"{self.grad_norm:.4g}, usual is {self.usual_grad_norm:.4g}). {self.cause()}"
        )

    def cause(self) -> str:
        if self.harmless_when_run_again:
            return (
                "The same step run again does no harm: suspect the machine, and continue on "
                "another one."
            )
        bad = [sample for sample in self.samples if not math.isfinite(sample["loss"])]
        if bad and len(bad) < len(self.samples):
            return (
                f"The loss of {_some([sample['index'] for sample in bad])} in the dataset is not "
                "finite, that of the others is: look for wrong values there."
            )
        if bad:
            return (
                "The loss of all its samples is not finite: the weights have grown too large. "
                "Lower `train.learning_rate` or set `train.clip_norm`."
            )
        usual = statistics.median(sample["loss"] for sample in self.samples)
        far = [sample for sample in self.samples if sample["loss"] > FAR * usual]
        if far:
            return (
                f"The loss of {_some([sample['index'] for sample in far])} in the dataset is more "
                f"than {FAR:,} times that of the others: look for wrong values there."
            )
        names = [name for name, norm in self.gradient_norms.items() if not math.isfinite(norm)]
        if names:
            return f"The losses are finite, but not the gradients of {_some(names)}."
        largest = sorted(self.gradient_norms, key=self.gradient_norms.__getitem__)[::-1]
        return (
            f"All numbers are finite; the largest gradients are those of {_some(largest[:3])}. "
            "Lower `train.learning_rate`, or raise `guard.spike` if they are right as they are."
        )


def diagnose(training: Training, batch: Batch, sums: StepSums) -> Diagnosis:
    """Of the last step, whose `batch` was run again: its gradients are there, its `sums` whole.

    Called by all processes, each with its share of the batch.
    """
    state, train = training.state, training.objective.train
    norms = {
        name: whole(torch.linalg.vector_norm(parameter.grad))
        for name, parameter in state.network.named_parameters()
        if parameter.grad is not None
    }
    grad_norm = torch.linalg.vector_norm(torch.stack(list(norms.values())))
    order = SampleOrder(len(train), state.recipe.seed)
    share = [
        {"place": place, "index": int(train.indices[order[place]]), "t": t, "loss": loss}
        for place, t, loss in zip(
            batch.index.tolist(), _joined(sums.t), _joined(sums.per_sample), strict=True
        )
    ]
    return Diagnosis(
        step=state.step,
        skipped_in_a_row=int(state.guard.in_a_row),
        skipped=int(state.guard.skipped),
        loss=float(sums.loss),
        grad_norm=float(grad_norm),
        usual_grad_norm=state.guard.usual_norm(),
        harmless_when_run_again=bool(state.guard.allows(sums.loss, grad_norm)),
        gradient_norms={name: float(norm) for name, norm in norms.items()},
        samples=[sample for part in training.processes.gather(share) for sample in part],
    )


def _joined(parts: Iterable[Tensor]) -> list[float]:
    return [value for part in parts for value in part.tolist()]


def _some(things: list[Any]) -> str:
    """The first few of them."""
    more = f" and {len(things) - MOST_NAMED} more" if len(things) > MOST_NAMED else ""
    return ", ".join(str(thing) for thing in things[:MOST_NAMED]) + more


def without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become texts."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
