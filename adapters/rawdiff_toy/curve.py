"""How far samples lie from the spiral, how much of them lies off its plane, what they leave out."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, Evaluator
from rawdiff_toy.plane import distance_to_spiral, energy_off_plane, on_plane


class Curve(Evaluator):
    """Mean distance to the true spiral, share of energy off its plane, and gaps along it.

    `distance` is sqrt(d² + e): d on the plane to the nearest point of the line, e the squared
    length off the plane; mean over samples. `off_plane` is the sum of e over the sum of all squared
    values. Both are 0 for true points, up to rounding, but also for samples that all stand on one
    of them: `gap`, the mean distance from training points to the nearest sample, tells.
    """

    by_default: ClassVar[bool] = False

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return "distance", "off_plane", "gap"

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        if samples.dim() != 3 or samples.shape[2] != 1 or samples.shape[1] < 2:
            raise UserError(
                f"`curve` scores points [D, 1] of the dataset `spiral`, but a sample has the shape "
                f"{list(samples.shape[1:])}. Leave it out of `evaluate.evaluators`."
            )
        x = samples[..., 0].double().cpu()
        off = energy_off_plane(x)
        distance = (distance_to_spiral(on_plane(x)).square() + off).sqrt()
        return {
            "distance": float(distance.mean()),
            "off_plane": float(off.sum() / x.square().sum()),
            "gap": float(torch.cdist(reference[..., 0].double().cpu(), x).amin(dim=1).mean()),
        }
