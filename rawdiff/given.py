"""Known values of a sample that is drawn: some stay as they are, all may be where it begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.conditions import Conditions
from rawdiff.data.patcher import Patcher
from rawdiff.errors import UserError


@dataclass(frozen=True)
class Given:
    """Values [B, C, …], NaN where unknown; those in `keep` [B, C, …] stay. x is standardized.

    Where data can be moved without becoming others, only what lies inside what is kept is known,
    not where it lies: it is laid upon each prediction, and at the end the sample upon it.
    """

    values: Tensor
    x: Tensor
    keep: Tensor
    patcher: Patcher

    @classmethod
    def of(cls, conditions: Conditions, patcher: Patcher) -> Given | None:
        """None where nothing is known. UserError where a value is to be kept that is not known."""
        if conditions.x is None:
            return None
        values = conditions.x.float()
        x = patcher.standardize(values)
        keep = torch.zeros_like(x, dtype=torch.bool) if conditions.keep is None else conditions.keep
        if bool((keep & x.isnan()).any()):
            raise UserError("The template wants values kept that it does not give (NaN).")
        return cls(values, x, keep, patcher)

    def put_into(self, x_pred: Tensor) -> Tensor:
        """Predictions [B, N, P] with the values that are kept; B may be that of x, or twice it."""
        raw = self.patcher.raw(x_pred)
        repeats = len(raw) // len(self.x)
        x, keep = (torch.cat((part,) * repeats) for part in (self.x, self.keep))
        if self.patcher.geometry is not None:
            x = self.patcher.geometry.align(x, raw, keep)
        return self.patcher.adapter.patchify(torch.where(keep, x, raw)).nan_to_num(0.0)

    def lay_upon(self, x: Tensor) -> Tensor:
        """Samples x [B, C, …], moved to where the values that are kept lie."""
        geometry = self.patcher.geometry
        return x if geometry is None else geometry.align(x, self.x, self.keep)

    def patches(self, known: Tensor | None) -> Tensor:
        """All that is given, as patches [B, N, P]; 0 where a sample has no value.

        UserError unless that is everything which a sample has.
        """
        x = self.patcher.adapter.patchify(self.x)
        missing = x.isnan() if known is None else x.isnan() & known
        if bool(missing.any()):
            raise UserError(
                f"{float(missing.double().mean()):.1%} of the values are unknown in the template, "
                "but `sample.start` above 0 begins with all of them. Set it to 0, or complete them."
            )
        return self.patcher.project(x.nan_to_num(0.0), known)
