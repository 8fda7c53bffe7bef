"""What new chains are to be like: whole ones of a length, as backbones or as maps of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from rawdiff.data.dataset import DataInfo
from rawdiff.data.template import RealSamples, Template, Wanted
from rawdiff.errors import UserError
from rawdiff_molecules.entry import BACKBONE
from rawdiff_molecules.pair_geometry import is_pair_map
from rawdiff_molecules.residues import Residues

APART = 7919  # between the real chains of one sample and the next: not all short ones first


class ChainTemplate(Template):
    """Chains without gaps, numbered from 1."""

    lengths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    """Their lengths, in turn (default: those of real ones). [residues]"""

    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        if self.lengths is None:
            length = _real_length(index, real())
        else:
            length = self.lengths[index % len(self.lengths)]
        if is_pair_map(info.channels):
            return _whole_map(length, info)
        return whole_chain(Residues.plain(length), info)


def _real_length(index: int, real: RealSamples) -> int:
    sample = real.get_batch([index * APART % len(real)])[0]
    if sample.scalars is None:
        raise UserError("These data have no lengths. Give `sample.template.lengths`.")
    return int(sample.scalars[0])


def whole_chain(residues: Residues, info: DataInfo) -> Wanted:
    """All atoms of so many residues. UserError where a sample of such data does not hold them."""
    atoms_of(info)
    length, longest = _fitting(len(residues), info)
    there = np.zeros(info.shape, dtype=bool)
    there[:, :length] = True
    place = residues.place(longest, chains="chain" in info.place_names)
    return Wanted(there=there, place=place, scalars=np.array([length], dtype=np.float32))


def atoms_of(info: DataInfo) -> Sequence[str]:
    """Of each residue, in the order of the channels. UserError unless samples are backbones."""
    names = [name.partition(".")[0] for name in info.channels[::3]]
    if len(info.shape) != 2 or not set(names) <= set(BACKBONE):
        raise UserError("This template is one of backbones; the model was trained on other data.")
    return names


def _whole_map(length: int, info: DataInfo) -> Wanted:
    """All pairs of so many residues."""
    length, longest = _fitting(length, info)
    there = np.zeros(info.shape, dtype=bool)
    there[:, :length, :length] = True
    place = np.full((1, longest, longest), np.nan, dtype=np.float32)
    place[0, :length, :length] = np.arange(length)[:, None]
    return Wanted(there=there, place=place, scalars=np.array([length], dtype=np.float32))


def _fitting(length: int, info: DataInfo) -> tuple[int, int]:
    """The length, and that of the longest chain of such data. UserError if that is less."""
    longest = info.shape[-1]
    if length > longest:
        raise UserError(
            f"{length} residues are wanted, but this model was trained on at most {longest}."
        )
    return length, longest
