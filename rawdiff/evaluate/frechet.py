"""Fréchet distance in the principal components of the training data."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, Evaluator

NUM_ITERATIONS = 4
NUM_SPARE = 16


class Frechet(Evaluator):
    """Fréchet distance in the PCA space of the training data; lower is better.

        |mu_s - mu_r|² + tr(S_s + S_r - 2 (S_s S_r)^½)

    of Gaussians fitted to samples and reference, in squared standard deviations. Values are
    standardized per channel, missing ones are 0, and the PCA is of the reference. The number of
    components is `num_components`, or what m reference samples of D values can span: at most
    m - 1 and D. The distance shrinks as n grows: compare equal numbers of samples only.
    (Dowson and Landau 1982; on a network's features: Heusel et al. 2017, arXiv 1706.08500)
    """

    num_components: int = Field(default=64, ge=1)
    """Principal components, or as many as the reference can span: at most one fewer than its
    samples have, and one for each value. [components]"""

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return ("",)

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        """UserError if there are fewer than two samples or two of the reference."""
        if min(len(samples), len(reference)) < 2:
            raise UserError(
                f"`frechet` compares spreads, but there are {len(samples)} samples and "
                f"{len(reference)} of the reference. Give at least 2 of each, better 1,000."
            )
        real = vectors(reference, basis)
        center = real.mean(0)
        real -= center
        num_components = min(self.num_components, len(real) - 1, real.shape[1])
        axes = principal_axes(real, num_components)
        return {"": frechet_distance((vectors(samples, basis) - center) @ axes, real @ axes)}


def vectors(x: Tensor, basis: Basis) -> Tensor:
    """Raw x [n, C, …] to standardized vectors [n, D] of their own memory, 0 where missing."""
    channels = (1, -1, *(1,) * (x.dim() - 2))
    mean, std = (values.to(x.device).view(channels) for values in (basis.mean, basis.std))
    return x.float().sub(mean).div_(std).nan_to_num_(nan=0.0).flatten(1)


def principal_axes(x: Tensor, num_components: int) -> Tensor:
    """The orthonormal directions [D, num_components] of largest variance of centred x [m, D].

    Subspace iteration from a fixed random start, with a few spare directions; exact where they
    span all of x. (Halko, Martinsson and Tropp 2011, algorithm 4.4)
    """
    width = min(num_components + NUM_SPARE, x.shape[1])
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(x.shape[1], width, generator=generator).to(x)
    for _ in range(NUM_ITERATIONS):
        basis = torch.linalg.qr(x.T @ (x @ basis)).Q
    inside = x @ basis
    _, rotation = torch.linalg.eigh((inside.T @ inside).double())  # ascending
    return basis @ rotation.flip(1)[:, :num_components].to(x)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared 2-Wasserstein distance of Gaussians fitted to a [n, k] and b [m, k], in float64.

    tr (S_a S_b)^½ is taken as tr (S_a^½ S_b S_a^½)^½, which is symmetric.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.cov(x.T).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    values, axes = torch.linalg.eigh(cov_a)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    overlap = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return max(float(shift + cov_a.trace() + cov_b.trace() - 2 * overlap), 0.0)
