"""Maps of pairs of residues as samples: the same wherever a chain lies and however it is turned."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from rawdiff.data.dataset import Batch, DataInfo, Sample
from rawdiff_molecules.entry import BACKBONE, Chain
from rawdiff_molecules.geometry import as_backbone
from rawdiff_molecules.pair_geometry import DISTANCE, LOG_DISTANCE, OMEGA, pair_maps
from rawdiff_molecules.stretches import Stretches


class PairMaps(Stretches):
    """Chains of L residues as maps [3, max_length, max_length].

    Channels are the distance d of two CA, and sine and cosine of omega, the angle between their
    side chains, which tells a chain from its mirror image. NaN beyond the chain's end and where an
    atom is missing. Maps are made on the device, of backbones. The length is told as a scalar.
    """

    min_length: int = Field(default=4, ge=4)
    """Shorter chains are left out. [residues]"""
    distance: Literal["log", "linear"] = "log"
    """`log` is log(1 + d), which tells near ones more exactly; `linear` is d in Angstrom."""
    omega: bool = True
    """Whether there are the channels of omega; without them mirror images are alike."""

    @model_validator(mode="after")
    def _agree(self) -> PairMaps:
        if self.chains == "together":
            raise ValueError("a map is of one chain: leave `chains: together` out")
        return self

    @property
    def info(self) -> DataInfo:
        is_log = self.distance == "log"
        channels = (LOG_DISTANCE if is_log else DISTANCE, *(OMEGA if self.omega else ()))
        return DataInfo(
            shape=(len(channels), self.max_length, self.max_length),
            stored_shape=(3 * len(BACKBONE), self.max_length),
            channels=channels,
            units=("" if is_log else "angstrom", *("" for _ in channels[1:])),
            scalar_names=("length",),
            writer="pair_maps",
            evaluators=("pair_maps",),
            place_names=("residue",),
            sizes_vary=True,
        )

    def sample(self, chain: Chain, part: slice) -> Sample:
        """The backbone [12, L] around its centre, and the place of each residue along its chain."""
        backbone, index = chain.backbone[part], chain.index[part]
        length = len(index)
        x = np.full((3 * len(BACKBONE), self.max_length), np.nan, dtype=np.float32)
        centred = backbone - np.nanmean(backbone, axis=(0, 1))  # float32 is fine there
        x[:, :length] = centred.reshape(length, -1).T
        place = np.full((1, self.max_length), np.nan, dtype=np.float32)
        place[0, :length] = index - index[0]
        return Sample(x=x, scalars=np.array([length], dtype=np.float32), place=place)

    def render(self, batch: Batch) -> Batch:
        """Maps of the backbones; the place of the first residue of each pair."""
        assert batch.place is not None
        maps = pair_maps(as_backbone(batch.x))[:, : self.info.shape[0]]
        if self.distance == "log":
            maps[:, 0].log1p_()
        first = batch.place.unsqueeze(-1)
        there = batch.place.unsqueeze(-2).isfinite()
        return replace(batch, x=maps, place=first.where(there, float("nan")))
