"""Backbones of proteins as samples: coordinates of N, CA, C and O, one residue after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from rawdiff.data.dataset import Array, Batch, DataInfo, Draw, Finding, Sample
from rawdiff.data.geometry import Geometry
from rawdiff.errors import UserError
from rawdiff_molecules.entry import BACKBONE, Chain
from rawdiff_molecules.folds import FOLDS, fold_class
from rawdiff_molecules.motion import RigidMotion, to_channels, to_points, uniform_rotations
from rawdiff_molecules.residues import Residues, place_names
from rawdiff_molecules.source import ChainDataset

AtomName = Literal["N", "CA", "C", "O"]


class Backbones(ChainDataset):
    """Chains of `min_length` to `max_length` residues, centred; in training turned at random.

    x [3 A, max_length] are x, y and z of the A `atoms` of each residue in Angstrom, NaN where an
    atom is missing and beyond the chain's end; the length is told as a scalar. Longer chains are
    left out, or with `longer: windows` cut into stretches of `max_length` that overlap by half.
    `label: fold` makes classes of their secondary structure: mainly helices, mainly strands, both,
    or few of either.
    """

    min_length: int = Field(default=1, ge=1)
    max_length: int = Field(ge=1)
    atoms: tuple[AtomName, ...] = Field(default=("N", "CA", "C", "O"), min_length=1)
    longer: Literal["leave_out", "windows"] = "leave_out"
    label: Literal["none", "fold"] = "none"

    @model_validator(mode="after")
    def _agree(self) -> Backbones:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self

    @property
    def info(self) -> DataInfo:
        channels = tuple(f"{atom}.{axis}" for atom in self.atoms for axis in "xyz")
        return DataInfo(
            shape=(len(channels), self.max_length),
            channels=channels,
            units=("angstrom",) * len(channels),
            class_names=FOLDS if self.label == "fold" else (),
            scalar_names=("length",),
            writer="backbones",
            evaluators=("backbones",),
            coordinates={"chain": (0.0,)} if self._together else {},
            place_names=place_names(chains=self._together),
            sizes_vary=True,
        )

    @property
    def _together(self) -> bool:
        return self.chains == "together"

    @property
    def geometry(self) -> Geometry:
        return RigidMotion()

    def __len__(self) -> int:
        return len(self._stretches)

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        stretches = self._stretches[np.asarray(indices, dtype=np.int64)]
        chains = self.entries.chains(stretches[:, 0], atoms=False)
        return [
            self._sample(chain, slice(start, start + self.max_length))
            for chain, start in zip(chains, stretches[:, 1].tolist(), strict=True)
        ]

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        """Each sample turned by a rotation of its own, uniform over all; never mirrored."""
        points = to_points(batch.x) @ uniform_rotations(draw)
        return replace(batch, x=to_channels(points, batch.x.shape))

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

    def _sample(self, chain: Chain, part: slice) -> Sample:
        residues = Residues.of(chain, part)
        atoms = [BACKBONE.index(atom) for atom in self.atoms]
        points = chain.backbone[part][:, atoms]
        x = np.full((len(atoms) * 3, self.max_length), np.nan, dtype=np.float32)
        x[:, : len(residues)] = centred(points).reshape(len(residues), -1).T
        length = np.array([len(residues)], dtype=np.float32)
        place = residues.place(self.max_length, chains=self._together)
        label = None
        if self.label == "fold":
            label = fold_class(chain.backbone[part, BACKBONE.index("CA")], residues.residue)
        return Sample(x=x, label=label, scalars=length, place=place)

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        kept = {name: value for name, value in state["__dict__"].items() if name != "_stretches"}
        return state | {"__dict__": kept}


def centred(points: Array) -> Array:
    """Atoms [L, A, 3], their mean at 0, taken in float64; NaN where missing."""
    known = points[~np.isnan(points).any(-1)].astype(np.float64)
    return points - known.mean(0) if len(known) else points
