"""Random samples that look like those of data that need not be there."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
from pydantic import PrivateAttr

from rawdiff.data.dataset import Array, DataInfo, Dataset, Sample

NUM_SAMPLES = 2**20  # so many that no run counts an epoch


class Synthetic(Dataset):
    """Samples of the shapes, classes, scalars and gaps that a dataset says it has.

    They are as they are learned: nothing is rendered or augmented. Of data whose sizes vary each
    sample ends somewhere in its second half.
    """

    _info: DataInfo = PrivateAttr()

    @classmethod
    def like(cls, info: DataInfo) -> Synthetic:
        data = cls()
        data._info = dataclasses.replace(info, stored_shape=None, stored_context_shape=None)
        return data

    @property
    def info(self) -> DataInfo:
        return self._info

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> Sample:
        info, random = self._info, np.random.default_rng(index)
        shape = info.shape
        there = self._there(random)

        def noise(num_channels: int) -> Array:
            return random.standard_normal((num_channels, *shape[1:]), dtype=np.float32)

        if self._is_8_bit:
            x: Array = random.integers(0, 256, shape, dtype=np.uint8)
        else:
            x = noise(shape[0])
            x[:, ~there] = np.nan
        num_scalars, num_context = len(info.scalar_names), info.num_context_channels
        return Sample(
            x=x,
            label=int(random.integers(info.num_classes)) if info.num_classes else None,
            scalars=random.standard_normal(num_scalars, np.float32) if num_scalars else None,
            context=noise(num_context) if num_context else None,
            place=np.where(there, self._places, np.nan) if info.place_names else None,
        )

    @property
    def _is_8_bit(self) -> bool:
        return self._info.value_range == (0, 255) and not self._info.sizes_vary

    def _there(self, random: np.random.Generator) -> Array:
        """Which values of a channel a sample has, bool."""
        sizes = self._info.shape[1:]
        if not self._info.sizes_vary:
            return np.ones(sizes, dtype=bool)
        ends = np.ceil(random.uniform(0.5, 1) * np.array(sizes)).reshape(-1, *(1,) * len(sizes))
        return np.logical_and.reduce(np.indices(sizes) < ends)

    @cached_property
    def _places(self) -> Array:
        """Of each row: how far along the first axis a value lies, float32 [A, …]."""
        sizes = self._info.shape[1:]
        along = np.arange(sizes[0], dtype=np.float32).reshape(-1, *(1,) * (len(sizes) - 1))
        return np.broadcast_to(along, (len(self._info.place_names), *sizes))
