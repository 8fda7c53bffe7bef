"""Small molecules in the pockets of proteins: the pocket's density is known, the molecule's new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from rawdiff.data.dataset import Array, Batch, DataInfo, Draw, Sample
from rawdiff.errors import UserError
from rawdiff_molecules.elements import SYMBOLS, element_number
from rawdiff_molecules.entry import Chain, Molecule
from rawdiff_molecules.lattice import voxelize
from rawdiff_molecules.molecules import Molecules
from rawdiff_molecules.motion import uniform_rotations
from rawdiff_molecules.ragged import Entries

Length = Annotated[float, Field(gt=0)]

NUM_AT_ONCE = 8192


@dataclass(frozen=True)
class Pocket:
    """Atoms near a molecule: positions [k, 3] in Angstrom with their mean at 0, channels [k].

    `centre` [3] is where that mean lies in the file.
    """

    positions: Array
    channels: Array
    centre: Array


class Complexes(Molecules):
    """Molecules as densities; those of the pockets around them are context.

    `pockets` is a packed file of proteins (`rawdiff prepare` with `data: {name: backbones,
    chains: together}`). A molecule lies in the protein of its own id, or of the name of its file
    without the ending. Its pocket are the residues with an atom within `pocket_distance` Angstrom
    of one of its own; their mean is the origin, so that it tells nothing of the molecule's place.
    The context has a channel for each of `pocket_elements`; what lies outside of the box is not
    seen.
    """

    pockets: Path
    pocket_elements: tuple[str, ...] = Field(default=("C", "N", "O", "S"), min_length=1)
    pocket_distance: Length = 8.0

    @model_validator(mode="after")
    def _is_turned(self) -> Complexes:
        if self.orientation != "random":
            raise ValueError("a pocket is turned with its molecule: write `orientation: random`")
        if wrong := {*self.pocket_elements} - {*SYMBOLS[1:]}:
            raise ValueError(f"{sorted(wrong)} under pocket_elements are no elements")
        return self

    @property
    def info(self) -> DataInfo:
        info = super().info
        near = f"{self.pocket_distance:g} angstrom, {', '.join(self.pocket_elements)}"
        return replace(
            info,
            num_context_channels=len(self.pocket_elements),
            meaning={**info.meaning, "pocket": near},
        )

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        rows = self._chosen[np.asarray(indices, dtype=np.int64)]
        molecules = self.entries.molecules(rows)
        proteins = self._proteins.chains(self._protein_of[rows])
        return [self._sample(*pair) for pair in zip(molecules, proteins, strict=True)]

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        """Molecule and pocket turned and moved together."""
        assert batch.context is not None
        rotations = uniform_rotations(draw)
        shift = (draw(3)[:, None] - 0.5) * self.spacing
        points = batch.x[..., :3] @ rotations + shift
        around = batch.context @ rotations[:, None] + shift[:, None]
        return replace(batch, x=torch.cat((points, batch.x[..., 3:]), -1), context=around)

    def render(self, batch: Batch) -> Batch:
        assert batch.context is not None
        pocket = replace(self.lattice, elements=self.pocket_elements)
        density = voxelize(_with_channels(batch.context), pocket)
        return replace(super().render(batch), context=density)

    @cached_property
    def _proteins(self) -> Entries:
        entries = Entries(self.pockets)
        if entries.kind != "chains":
            raise UserError(f"`data.pockets` {self.pockets} holds {entries.kind}, not chains.")
        return entries

    @cached_property
    def _protein_of(self) -> Array:
        """Entry of the protein of each molecule [E]; -1 where there is none."""
        numbers = {name: i for i, name in enumerate(self._proteins.ids)}
        found = []
        for start in range(0, len(self.entries), NUM_AT_ONCE):
            stop = min(start + NUM_AT_ONCE, len(self.entries))
            for molecule in self.entries.molecules(range(start, stop)):
                names = (molecule.id, _stem(molecule.source))
                found.append(next((numbers[name] for name in names if name in numbers), -1))
        return np.array(found)

    @cached_property
    def _around(self) -> tuple[Array, int]:
        """Reach of each molecule from its pocket's centre [E], infinite where no pocket is; and
        the most atoms of one element that a pocket has. Reads everything once."""
        reach, most = np.full(len(self.entries), np.inf), 1
        for i in np.flatnonzero(self._protein_of >= 0).tolist():
            (molecule,) = self.entries.molecules([i])
            (protein,) = self._proteins.chains([self._protein_of[i]])
            pocket = self._pocket(molecule, protein)
            if len(pocket.channels):
                reach[i] = np.linalg.norm(molecule.positions - pocket.centre, axis=1).max()
                most = max(most, int(np.bincount(pocket.channels).max()))
        return reach, most

    @property
    def _reach(self) -> Array:
        return np.where(np.isinf(self._around[0]), 0.0, self._around[0])

    def _unfit(self) -> list[tuple[Array, str]]:
        return [*super()._unfit(), (np.isinf(self._around[0]), "without a pocket")]

    def _sample(self, molecule: Molecule, protein: Chain) -> Sample:
        """The context as stored: positions [C', k, 3] of each element, NaN where there are less."""
        pocket = self._pocket(molecule, protein)
        x = self._stored(molecule)
        x[: len(molecule.elements), :3] = molecule.positions - pocket.centre
        context = np.full((len(self.pocket_elements), self._around[1], 3), np.nan, dtype=np.float32)
        for channel, positions in enumerate(context):
            own = pocket.positions[pocket.channels == channel]
            positions[: len(own)] = own
        return Sample(x, context=context)

    def _pocket(self, molecule: Molecule, protein: Chain) -> Pocket:
        residue = np.repeat(np.arange(len(protein.names)), np.diff(protein.atom_offsets))
        apart = np.linalg.norm(protein.positions[:, None] - molecule.positions[None], axis=-1)
        is_near = np.isin(residue, residue[(apart < self.pocket_distance).any(1)])
        channels = np.full(len(SYMBOLS), -1)
        channels[[element_number(name) for name in self.pocket_elements]] = np.arange(
            len(self.pocket_elements)
        )
        chosen = is_near & (channels[protein.elements] >= 0)
        positions = protein.positions[chosen]
        centre = positions.mean(0, dtype=np.float64) if len(positions) else np.zeros(3)
        return Pocket(positions - centre, channels[protein.elements[chosen]], centre)


def _stem(source: str) -> str:
    """The name of a record's file without folders and endings."""
    name = Path(source.rpartition("#")[0]).name.removesuffix(".gz")
    return Path(name).stem


def _with_channels(context: Tensor) -> Tensor:
    """Positions [B, C', k, 3] of each channel's atoms to atoms [B, C' k, 4]."""
    channel = torch.arange(context.shape[1], device=context.device)[:, None, None]
    known = ~context.isnan().any(-1, keepdim=True)
    numbers = torch.where(known, channel, torch.nan)
    return torch.cat((context, numbers), dim=-1).flatten(1, 2)
