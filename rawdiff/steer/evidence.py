"""What is observed of a batch of samples, beside what would be observed of predicted ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.errors import UserError
from rawdiff.steer.operator import Measure, Operator

DEFAULT_NOISE = 0.01  # of an observation, relative to the spread of the data
HEAVIEST = 1e36  # what methods sum up, in units of the noise; float32 ends at 3e38


@dataclass(frozen=True)
class Evidence:
    """y [B, M] and A(x), both divided by the noise of the observation; 0 where not `seen` [B, M].

    `values` [B, …] is y in data units, NaN where not seen. `spread` [B, M] or [1, M] is that of
    the data, in units of the noise. known [B, N, P]: where samples have values (None: everywhere).
    """

    y: Tensor
    values: Tensor
    seen: Tensor
    noise: Tensor
    spread: Tensor
    measure_raw: Measure
    patcher: Patcher
    known: Tensor | None

    @classmethod
    def of(
        cls,
        values: Tensor,
        operator: Operator,
        noise_std: float | tuple[float, ...] | None,
        known: Tensor | None,
        patcher: Patcher,
        info: DataInfo,
    ) -> Evidence:
        """Of an observation `values` [B, …] in data units, NaN where nothing was seen.

        UserError where nothing that is seen is there in samples.
        """
        measure = operator.measure(info, patcher.grid)
        mean = torch.zeros(len(values), *info.shape, device=values.device)
        if known is not None:
            nothing = torch.zeros_like(known, dtype=torch.float32)
            mean = patcher.raw(torch.where(known, nothing, torch.nan))
        of_mean = measure(patcher.destandardize(mean)).flatten(1)
        y = values.flatten(1).float()
        seen = ~y.isnan() & ~of_mean.isnan()
        if not bool(seen.any()) and not bool(y.isnan().all()):
            raise UserError(
                "Everything that was observed lies where samples have no values. Look at the "
                "positions of the observation, and at which values the training data miss."
            )
        stds = patcher.statistics.x.std
        noise = noise_spread(noise_std, stds, values.shape[1:], operator).flatten()[None]
        distance = torch.where(seen, y - of_mean, 0.0)
        if operator.keeps_channels:
            spread = _along_channels(stds, values.shape[1:]).flatten()[None] / noise
        else:
            number = seen.sum(-1, keepdim=True).clamp(min=1)
            spread = ((distance / noise).square().sum(-1, keepdim=True) / number).sqrt()
            spread = spread.clamp(min=1.0)
        _require_weighable(distance / noise, spread)
        return cls(
            y=torch.where(seen, y, 0.0) / noise,
            values=torch.where(seen.view_as(values), values, torch.nan),
            seen=seen,
            noise=noise,
            spread=spread,
            measure_raw=measure,
            patcher=patcher,
            known=known,
        )

    def measure(self, x: Tensor) -> Tensor:
        """A(x) [B, M] in units of the noise, for standardized patches x [B, N, P]."""
        x = self.patcher.raw(x if self.known is None else torch.where(self.known, x, torch.nan))
        measured = self.measure_raw(self.patcher.destandardize(x)).flatten(1)
        return torch.where(self.seen, measured, 0.0) / self.noise

    def scaled_distance(self, x: Tensor) -> Tensor:
        """|y - A(x)| [B], with each value in units of the data's spread."""
        square = ((self.y - self.measure(x)) / self.spread).square().sum(-1)
        return (square + torch.finfo(square.dtype).tiny).sqrt()  # a slope at 0, too

    def put_into(self, x: Tensor) -> Tensor:
        """Patches x [B, N, P] with the values that are seen of the sample itself."""
        y = self.patcher.standardize(self.values)
        raw = torch.where(y.isnan(), self.patcher.raw(x), y)
        return self.patcher.adapter.patchify(raw).nan_to_num(0.0)


def _require_weighable(distance: Tensor, spread: Tensor) -> None:
    """UserError where distance [B, M] and spread, in units of the noise, overflow float32.

    Methods would take such an observation for none, and draw freely.
    """
    most = distance.double().square().sum(-1).max() * spread.double().square().max().clamp(min=1)
    if not bool(most < HEAVIEST):
        raise UserError(
            f"The observation lies {distance.abs().max().item():.2g} times its noise away from the "
            "mean of the data: 32-bit numbers cannot weigh that. Look at its units, or give a "
            "larger `noise_std`."
        )


def _along_channels(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values [C] for each observed value, of shape (C, …)."""
    return values.view(-1, *(1,) * (len(shape) - 1)).expand(shape)


def noise_spread(
    noise_std: float | tuple[float, ...] | None,
    stds: Tensor,
    shape: tuple[int, ...],
    operator: Operator,
) -> Tensor:
    """The spread of the noise of each observed value, of `shape`, in data units."""
    if isinstance(noise_std, float | int):
        return torch.full(shape, float(noise_std), device=stds.device)
    if not operator.keeps_channels:
        found = "is missing" if noise_std is None else f"is {list(noise_std)}"
        raise UserError(
            f"`noise_std` {found}, but this operator does not keep the channels apart: give one "
            "number, the spread of the noise in the observation's own units."
        )
    if noise_std is None:
        return _along_channels(DEFAULT_NOISE * stds, shape)
    if len(noise_std) != len(stds):
        raise UserError(
            f"`noise_std` has {len(noise_std)} numbers, but there are {len(stds)} channels. Give "
            "one for each, or one for all."
        )
    return _along_channels(torch.tensor(noise_std, device=stds.device), shape)
