"""What new maps of residue pairs are to be like: those of chains of a length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

from rawdiff.data.dataset import DataInfo
from rawdiff.data.template import RealSamples, Template, Wanted
from rawdiff.errors import UserError
from rawdiff_molecules.pair_geometry import is_pair_map


class PairTemplate(Template):
    """Maps of chains without gaps; `lengths` in turn, by default those of real ones."""

    lengths: tuple[Annotated[int, Field(ge=4)], ...] | None = Field(default=None, min_length=1)

    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        if not is_pair_map(info.channels):
            raise UserError("This template is one of pair maps; the model learned other data.")
        length = self._real_length(index, real()) if self.lengths is None else self._length(index)
        longest = info.shape[-1]
        if length > longest:
            raise UserError(
                f"{length} residues are wanted, but this model was trained on at most {longest}."
            )
        there = np.zeros(info.shape, dtype=bool)
        there[:, :length, :length] = True
        place = np.full((1, longest, longest), np.nan, dtype=np.float32)
        place[0, :length, :length] = np.arange(length)[:, None]
        scalars = np.array([length], dtype=np.float32)
        return Wanted(there=there, place=place, scalars=scalars)

    def _length(self, index: int) -> int:
        assert self.lengths is not None
        return self.lengths[index % len(self.lengths)]

    def _real_length(self, index: int, real: RealSamples) -> int:
        sample = real.get_batch([index * 7919 % len(real)])[0]  # not all short ones first
        assert sample.scalars is not None
        return int(sample.scalars[0])
