"""Mean and spread of the training data, once over all of it in a stream, kept with the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rawdiff.data.dataset import Batch
from rawdiff.errors import UserError
from rawdiff.files import atomic
from rawdiff.settings import Settings

ROUNDED = 1e-14
"""Of a mean: spreads below are those of rounding."""


class StandardizationSettings(Settings):
    """How raw values become those that the network sees, and come back."""

    mode: Literal["statistics", "fixed", "none"] = "statistics"
    """`statistics` makes each channel mean 0 and spread 1, measured on the training data; `fixed`
    uses the given `mean` and `std` for all channels; `none` leaves values as they are."""
    mean: float | None = None
    """With `mode: fixed`, what is taken off: 127.5 for 8-bit images. [data units]"""
    std: float | None = Field(default=None, gt=0)
    """With `mode: fixed`, what is divided by: 127.5 brings 8-bit images to [-1, 1]. [data units]"""
    num_samples: int | None = Field(default=None, ge=1)
    """Training samples that are measured, spread evenly (default: all, which for terabytes takes as
    long as an epoch); where values are missing, one of them must show it. [samples]"""

    @model_validator(mode="after")
    def _agree(self) -> StandardizationSettings:
        given = self.mean is not None and self.std is not None
        if (self.mode == "fixed") != given or (self.mean is None) != (self.std is None):
            raise ValueError("`mean` and `std` belong to `mode: fixed`, which needs both")
        return self


@dataclass(frozen=True)
class Moments:
    """Mean and std of each channel, float32 [C]."""

    mean: Tensor
    std: Tensor

    def to(self, device: torch.device) -> Moments:
        return Moments(self.mean.to(device), self.std.to(device))


@dataclass(frozen=True)
class Statistics:
    """What a run knows of its data.

    `x`, `context` and `scalars` are standardized by their moments. `ever_present` [C, …] is False
    where every sample misses its value (land under a sea-surface temperature); `missing_varies`
    says that some values are missing in some samples only, so that the network must be told.
    `measured` is what was found of x where its moments are given instead.
    """

    x: Moments
    ever_present: Tensor
    missing_varies: bool
    context: Moments | None = None
    context_missing: bool = False
    scalars: Moments | None = None
    num_samples: int = 0
    measured: Moments | None = None

    def to(self, device: torch.device) -> Statistics:
        """Everything on a device, so that standardizing there waits for no transfer."""
        return replace(
            self,
            x=self.x.to(device),
            ever_present=self.ever_present.to(device),
            context=self.context and self.context.to(device),
            scalars=self.scalars and self.scalars.to(device),
        )

    def save(self, path: Path) -> None:
        """UserError if the file cannot be written."""
        tensors = {"ever_present": self.ever_present}
        for name in ("x", "context", "scalars", "measured"):
            if moments := getattr(self, name):
                tensors |= {f"{name}.mean": moments.mean, f"{name}.std": moments.std}
        numbers = ("missing_varies", "context_missing", "num_samples")
        tensors |= {name: torch.tensor(int(getattr(self, name))) for name in numbers}
        with atomic(path) as file:
            file.write(save(tensors))

    @classmethod
    def load(cls, path: Path) -> Statistics:
        if not path.is_file():
            raise UserError(f"{path} is missing: it holds the statistics of the run's data.")
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise UserError(
                f"{path} is damaged ({error}). The checkpoints of the run hold copies of it."
            ) from error

        def moments(name: str) -> Moments | None:
            mean = tensors.get(f"{name}.mean")
            return None if mean is None else Moments(mean, tensors[f"{name}.std"])

        x = moments("x")
        if x is None or "ever_present" not in tensors:
            raise UserError(f"{path} holds no statistics of a run.")
        return cls(
            x=x,
            ever_present=tensors["ever_present"],
            missing_varies=bool(tensors["missing_varies"]),
            context=moments("context"),
            context_missing=bool(tensors["context_missing"]),
            scalars=moments("scalars"),
            num_samples=int(tensors["num_samples"]),
            measured=moments("measured"),
        )


class _Stream:
    """Count, mean and sum of squared deviations of each channel, merged batch by batch.

    Float64 throughout; missing values are left out. (Chan, Golub and LeVeque 1983)
    """

    def __init__(self) -> None:
        self.count = self.mean = self.squares = torch.zeros(1, dtype=torch.float64)

    def add(self, values: Tensor, what: str) -> None:
        """values [C, n], NaN where missing. UserError for infinite ones."""
        values = values.double()
        if infinite := values.isinf().any(1).nonzero().flatten().tolist():
            raise UserError(
                f"Channels {infinite} of `{what}` hold infinite values in the training data. "
                "Correct them, or mark them as missing with NaN."
            )
        count = (~values.isnan()).sum(1).double()
        mean = torch.nan_to_num(values.nanmean(1))
        squares = (values - mean[:, None]).square().nansum(1)
        total = self.count + count
        share = count / total.clamp(min=1)
        shift = mean - self.mean
        self.squares = self.squares + squares + shift.square() * self.count * share
        self.mean, self.count = self.mean + shift * share, total

    def moments(self, what: str) -> Moments:
        if empty := (self.count == 0).nonzero().flatten().tolist():
            raise UserError(
                f"Channels {empty} of `{what}` have no value in any training sample: drop them."
            )
        std = (self.squares / self.count).sqrt()
        # a constant channel stays what it is, minus its mean; sums in float64 leave a little, and
        # what is only told of samples may be constant but for the rounding of float32
        rounded = ROUNDED if what == "x" else torch.finfo(torch.float32).eps
        std = torch.where(std <= rounded * self.mean.abs(), 1.0, std.nan_to_num(torch.inf))
        self._require_float32(std, what)
        return Moments(self.mean.float(), std.float())

    def _require_float32(self, std: Tensor, what: str) -> None:
        """UserError where numbers that differ would be the same to the network, or infinite."""
        limits = torch.finfo(torch.float32)
        for channel, (mean, spread) in enumerate(zip(self.mean, std, strict=True)):
            found = f"Channel {channel} of `{what}` has mean {mean:g} and spread {spread:g}"
            if max(abs(mean), spread) > limits.max / 100 or spread < limits.tiny:
                raise UserError(
                    f"{found}, which float32 does not hold. Give the data in other units."
                )
            if spread < limits.eps * abs(mean):
                raise UserError(
                    f"{found}; float32 does not keep such small differences. Subtract what samples "
                    "have in common."
                )


def measure(batches: Iterable[Batch]) -> Statistics:
    """Statistics of x, context and scalars over all batches of the training split."""
    streams: dict[str, _Stream] = {}
    present_count: Tensor | None = None
    num_samples, context_missing = 0, False
    for batch in batches:
        for name in ("x", "context", "scalars"):
            values = getattr(batch, name)
            if values is not None:
                streams.setdefault(name, _Stream()).add(values.transpose(0, 1).flatten(1), name)
        present = (~batch.x.isnan()).sum(0)
        present_count = present if present_count is None else present_count + present
        if batch.context is not None:
            context_missing |= bool(batch.context.isnan().any())
        num_samples += len(batch)
    if present_count is None:
        raise UserError("There are no training samples to take statistics of.")
    moments = {name: stream.moments(name) for name, stream in streams.items()}
    return Statistics(
        x=moments["x"],
        ever_present=present_count > 0,
        missing_varies=bool(((present_count > 0) & (present_count < num_samples)).any()),
        context=moments.get("context"),
        context_missing=context_missing,
        scalars=moments.get("scalars"),
        num_samples=num_samples,
    )


def fixed(
    mean: float, std: float, shape: tuple[int, ...], *, num_context_channels: int = 0
) -> Statistics:
    """Given numbers for all channels of data without scalars or gaps; context stays as it is."""
    channels, known = torch.ones(shape[0]), torch.ones(num_context_channels)
    return Statistics(
        x=Moments(mean * channels, std * channels),
        ever_present=torch.ones(shape, dtype=torch.bool),
        missing_varies=False,
        context=Moments(0 * known, known) if num_context_channels else None,
    )
