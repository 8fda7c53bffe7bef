"""Points of the spiral as a dataset: made when asked for, each a function of its number alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from rawdiff import philox
from rawdiff.data.dataset import DataInfo, Dataset, Sample
from rawdiff_toy.plane import projection, spiral


class Spiral(Dataset):
    """Points [D, 1] of a spiral on a plane in D dimensions: D channels, one patch.

    Sample i depends on the seed and i. (Li and He 2025, arXiv 2511.13720, Fig. 2)
    """

    num_dims: int = Field(default=512, ge=2, le=100_000)
    """Dimensions in which the plane is buried. [dims]"""
    num_samples: int = Field(default=16_384, ge=1)
    """Size of the set. [samples]"""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Another one gives other points of the same spiral. [-]"""

    @property
    def info(self) -> DataInfo:
        return DataInfo(
            shape=(self.num_dims, 1),
            channels=tuple(f"x{i}" for i in range(self.num_dims)),
            writer="plane",
        )

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}")
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        u = philox.uniform(self.seed, philox.Stream.DATA, torch.tensor(indices), 1)[:, 0]
        x = spiral(u.double())[:, None] @ projection(self.num_dims).T
        return [Sample(x=point.T) for point in x.float().numpy()]
