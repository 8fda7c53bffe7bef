"""Chains of a wanted length as samples, and what is cut of longer ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from rawdiff.data.dataset import Array, Finding, Sample
from rawdiff.errors import UserError
from rawdiff_molecules.entry import Chain
from rawdiff_molecules.source import ChainDataset


class Stretches(ChainDataset, ABC):
    """Chains, or stretches of them."""

    min_length: int = Field(default=1, ge=1)
    """Shorter chains are left out. [residues]"""
    max_length: int = Field(ge=1)
    """Residues of the longest chain; samples have room for so many. [residues]"""
    longer: Literal["leave_out", "windows"] = "leave_out"
    """Longer chains are left out, or cut into stretches of `max_length` that overlap by half."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self

    @abstractmethod
    def sample(self, chain: Chain, part: slice) -> Sample:
        """Of these residues of a chain, at most `max_length`; its atoms are not read."""

    def __len__(self) -> int:
        return len(self._stretches)

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        stretches = self._stretches[np.asarray(indices, dtype=np.int64)]
        chains = self.entries.chains(stretches[:, 0], atoms=False)
        return [
            self.sample(chain, slice(start, start + self.max_length))
            for chain, start in zip(chains, stretches[:, 1].tolist(), strict=True)
        ]

    def findings(self) -> Iterator[Finding]:
        yield from super().findings()
        lengths = self.entries.num_residues
        short, long = int((lengths < self.min_length).sum()), int((lengths > self.max_length).sum())
        what = "left out" if self.longer == "leave_out" else "cut into windows"
        yield Finding(
            "samples",
            f"{len(self):,}; {short:,} chains of less than {self.min_length} residues left out, "
            f"{long:,} of more than {self.max_length} {what}",
        )

    @cached_property
    def _stretches(self) -> Array:
        """Entry and first residue of each sample: [n, 2]. UserError if there is none."""
        lengths = self.entries.num_residues
        whole = np.flatnonzero((lengths >= self.min_length) & (lengths <= self.max_length))
        found = [np.stack([whole, np.zeros_like(whole)], axis=1)]
        if self.longer == "windows":
            step = max(self.max_length // 2, 1)
            for entry in np.flatnonzero(lengths > self.max_length):
                last = lengths[entry] - self.max_length
                starts = np.append(np.arange(0, last, step), last)
                found.append(np.stack([np.full_like(starts, entry), starts], axis=1))
        stretches = np.concatenate(found)
        if not len(stretches):
            raise UserError(
                f"None of the {len(lengths):,} chains of {self.path} has {self.min_length} to "
                f"{self.max_length} residues (they have {lengths.min():,} to {lengths.max():,}). "
                "Change `data.min_length` and `data.max_length`."
            )
        return stretches

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        kept = {name: value for name, value in state["__dict__"].items() if name != "_stretches"}
        return state | {"__dict__": kept}
