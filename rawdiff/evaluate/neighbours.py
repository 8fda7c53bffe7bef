"""Memorization: how near samples come to single training samples."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, Evaluator, Goal
from rawdiff.evaluate.frechet import vectors

VALUES_AT_ONCE = 2**24


class Neighbours(Evaluator):
    """Distance to the nearest training sample; far below real data means copies.

    Distances are root mean squares over all values, in standard deviations; missing values count
    as the channel's mean. The score is the median of d_1 over the samples, and `copies` the share
    with d_1 < `ratio` d_2, where d_1 and d_2 are the distances to the nearest and second nearest
    training sample. A training sample that is there twice hides its copies from the ratio, not
    from the median. (The ratio and its 1/3: Yoon et al. 2023, "Diffusion probabilistic models
    generalize when they fail to memorize"; Gu et al. 2023, arXiv 2310.02664)
    """

    ratio: float = Field(default=1 / 3, gt=0, lt=1)
    """A sample is a copy where d_1 is less than this times d_2. [-]"""

    def goal(self, key: str) -> Goal:
        """The fewer copies the better; a distance under that of real data is no merit."""
        return "low" if key == "copies" else "oracle"

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return "", "copies"

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        """UserError if the reference has fewer than two samples."""
        if len(reference) < 2:
            raise UserError(
                f"`neighbours` needs the two nearest training samples, but the reference has "
                f"{len(reference)}. Give it more."
            )
        nearest, second = two_nearest(vectors(samples, basis), vectors(reference, basis)).T
        copies = nearest < self.ratio * second
        return {"": float(nearest.median()), "copies": float(copies.double().mean())}


def two_nearest(x: Tensor, reference: Tensor) -> Tensor:
    """RMS distances [n, 2] of x [n, D] to the nearest and second nearest of reference [m, D].

    A matrix product finds them; then both are measured again directly, so that a copy is at 0.
    """
    squares = reference.square().sum(1)
    distances = []
    for part in torch.split(x, max(VALUES_AT_ONCE // max(reference.shape[0], 2 * x.shape[1]), 1)):
        order = squares - 2 * part @ reference.T  # |r - x|² without |x|²
        places = order.topk(2, largest=False).indices
        exact = (reference[places] - part[:, None]).square().mean(2).sqrt()
        distances.append(exact.sort(1).values)
    return torch.cat(distances)
