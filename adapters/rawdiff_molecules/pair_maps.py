"""Maps of pairs of residues as samples: the same wherever a chain lies and however it is turned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from rawdiff.data.dataset import Array, Batch, DataInfo, Finding, Sample
from rawdiff.errors import UserError
from rawdiff_molecules.entry import BACKBONE, Chain
from rawdiff_molecules.geometry import as_backbone
from rawdiff_molecules.pair_geometry import DISTANCE, LOG_DISTANCE, OMEGA, pair_maps
from rawdiff_molecules.source import ChainDataset


class PairMaps(ChainDataset):
    """Chains of `min_length` to `max_length` residues L as maps [3, max_length, max_length].

    Channels are the distance d of two CA, and sine and cosine of omega, the angle between their
    side chains, which tells a chain from its mirror image; with `omega: false` distances alone.
    `distance: log` is log(1 + d), which tells near ones more exactly; `linear` is d in Angstrom.
    NaN beyond the chain's end and where an atom is missing. Maps are made on the device, of
    backbones. The length is told as a scalar; longer chains are left out.
    """

    min_length: int = Field(default=4, ge=4)
    max_length: int = Field(ge=4)
    distance: Literal["log", "linear"] = "log"
    omega: bool = True

    @model_validator(mode="after")
    def _agree(self) -> PairMaps:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
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

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        """Backbones [12, L] around their centre, and the place of each residue along its chain."""
        chosen = self._chosen[np.asarray(indices, dtype=np.int64)]
        return [self._sample(chain) for chain in self.entries.chains(chosen)]

    def _sample(self, chain: Chain) -> Sample:
        length = len(chain.index)
        x = np.full((3 * len(BACKBONE), self.max_length), np.nan, dtype=np.float32)
        centred = chain.backbone - np.nanmean(chain.backbone, axis=(0, 1))  # float32 is fine there
        x[:, :length] = centred.reshape(length, -1).T
        place = np.full((1, self.max_length), np.nan, dtype=np.float32)
        place[0, :length] = chain.index - chain.index[0]
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

    def findings(self) -> Iterator[Finding]:
        yield from super().findings()
        lengths = self.entries.num_residues
        short, long = int((lengths < self.min_length).sum()), int((lengths > self.max_length).sum())
        yield Finding(
            "samples",
            f"{len(self):,}; {short:,} chains of less than {self.min_length} residues and {long:,} "
            f"of more than {self.max_length} left out",
        )

    @cached_property
    def _chosen(self) -> Array:
        """Entries [n] of the right length. UserError if there is none."""
        lengths = self.entries.num_residues
        chosen = np.flatnonzero((lengths >= self.min_length) & (lengths <= self.max_length))
        if not len(chosen):
            raise UserError(
                f"None of the {len(lengths):,} chains of {self.path} has {self.min_length} to "
                f"{self.max_length} residues (they have {lengths.min(initial=0):,} to "
                f"{lengths.max(initial=0):,}). Change `data.min_length` and `data.max_length`."
            )
        return chosen

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        kept = {name: value for name, value in state["__dict__"].items() if name != "_chosen"}
        return state | {"__dict__": kept}
