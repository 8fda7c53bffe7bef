"""Wasserstein-1 distance of the values of each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.evaluate.evaluator import Basis, Evaluator

NUM_QUANTILES = 2**16
MAX_VALUES = 2**21
GOLDEN_RATIO = 0.5 * (5**0.5 - 1)


class Wasserstein(Evaluator):
    """Distance of the distributions of values; lower is better.

        W_1 = ∫ |F_s⁻¹(q) - F_r⁻¹(q)| dq

    of all values of a channel, whichever sample and place they come from: how far they must be
    moved. `<channel>` is in its own units, the mean over channels in standard deviations. Missing
    values are left out, and so is a channel without values in one of the two sets.
    (Villani 2003, "Topics in optimal transportation", 2.2)
    """

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return ("", *info.channels)

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        distances = {
            name: wasserstein_1(samples[:, c], reference[:, c])
            for c, name in enumerate(basis.info.channels)
            if has_values(samples[:, c]) and has_values(reference[:, c])
        }
        if not distances:
            return {}
        spreads = dict(zip(basis.info.channels, basis.std.tolist(), strict=True))
        in_spreads = [distance / spreads[name] for name, distance in distances.items()]
        return {"": sum(in_spreads) / len(in_spreads), **distances}


def has_values(x: Tensor) -> bool:
    return not bool(x.isnan().all())


def wasserstein_1(a: Tensor, b: Tensor) -> float:
    """W_1 of the values of a and b, of any shapes, in their units; NaN is left out.

    The mean over 65,536 evenly spaced quantiles: exact where both numbers of values divide it,
    otherwise to about one part in that. Of more than two million values, one is taken from each
    of so many equal stretches, at a place that moves on by the golden ratio, so that it falls in
    step with no grid.
    """
    return float((_quantiles(a) - _quantiles(b)).abs().mean())


def _quantiles(x: Tensor) -> Tensor:
    values = x[~x.isnan()]
    if len(values) > MAX_VALUES:
        i = torch.arange(MAX_VALUES, dtype=torch.float64)
        places = (i + (i * GOLDEN_RATIO) % 1) * (len(values) / MAX_VALUES)
        values = values[places.long().clamp(max=len(values) - 1).to(values.device)]
    q = (torch.arange(NUM_QUANTILES, dtype=torch.float64) + 0.5) / NUM_QUANTILES
    return values.sort().values[(q * len(values)).long().to(values.device)].double()
