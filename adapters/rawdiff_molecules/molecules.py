"""Small molecules as densities: atoms are stored, and become densities on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from rawdiff.data.dataset import Array, Batch, DataInfo, Draw, Finding, Sample
from rawdiff.errors import UserError
from rawdiff_molecules.elements import SYMBOLS, element_number
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.lattice import Lattice, voxelize
from rawdiff_molecules.mol3d import Voxels
from rawdiff_molecules.motion import uniform_rotations
from rawdiff_molecules.ragged import Kind
from rawdiff_molecules.source import EntryDataset
from rawdiff_molecules.survey import Survey, centred, laid, survey

Length = Annotated[float, Field(gt=0)]


class Molecules(EntryDataset):
    """Molecules as densities [C, X, Y, Z] on `num_voxels` voxels of `spacing` Angstrom.

    A channel for each of the `elements` (`auto`: those that occur), in each the sum of
    exp(-(d / 0.93 radius)²) over its atoms. Molecules are centred. In training they are turned,
    uniformly over all rotations, and moved by less than a voxel (`orientation: random`). Or each
    is laid in a pose of its own (`principal`): the longest axis along x, the shortest along z,
    which fits a flatter box and is learned in much less time. They are never mirrored.

    Molecules that could leave the box, that have other elements or more than `max_atoms` atoms
    (default: any number) are left out, and counted.
    """

    kind: ClassVar[Kind] = "molecules"

    elements: tuple[str, ...] | Literal["auto"] = "auto"
    num_voxels: Voxels = (32, 32, 32)
    spacing: Length = 0.4
    radius: Length = 0.5
    orientation: Literal["random", "principal"] = "random"
    max_atoms: int | None = Field(default=None, ge=1)

    @field_validator("elements")
    @classmethod
    def _known(cls, elements: tuple[str, ...] | str) -> tuple[str, ...] | str:
        wrong = [name for name in elements if name not in SYMBOLS[1:]]
        if isinstance(elements, tuple) and (wrong or not elements):
            raise ValueError(f"{wrong} are no elements; write symbols such as [C, H, N, O]")
        if len(set(elements)) < len(elements) and isinstance(elements, tuple):
            raise ValueError(f"an element stands twice in {list(elements)}")
        return elements

    @property
    def info(self) -> DataInfo:
        lattice = self.lattice
        return DataInfo(
            shape=lattice.shape,
            channels=lattice.elements,
            units=("1",) * len(lattice.elements),
            coordinates=lattice.coordinates,
            writer="molecules",
            evaluators=("molecules",),
            meaning={**lattice.meaning, "orientation": self.orientation},
            stored_shape=(self._num_rows, 4),
        )

    @property
    def lattice(self) -> Lattice:
        return Lattice(self.num_voxels, self.spacing, self.radius, self._symbols)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        rows = self._chosen[np.asarray(indices, dtype=np.int64)]
        return [Sample(self._stored(molecule)) for molecule in self.entries.molecules(rows)]

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        """Each molecule turned and moved on its own, unless its pose is given by itself."""
        if self.orientation == "principal":
            return batch
        points = batch.x[..., :3] @ uniform_rotations(draw)
        points = points + (draw(3)[:, None] - 0.5) * self.spacing
        return replace(batch, x=torch.cat((points, batch.x[..., 3:]), dim=-1))

    def render(self, batch: Batch) -> Batch:
        return replace(batch, x=voxelize(batch.x, self.lattice))

    def findings(self) -> Iterator[Finding]:
        """With what was left out, and how much room there is in the box."""
        yield from super().findings()
        listed = "; ".join(f"{int(which.sum()):,} {text}" for which, text in self._unfit())
        yield Finding("samples", f"{len(self):,}; left out: {listed}")
        box = " x ".join(f"{2 * half:g}" for half in self.lattice.half_box)
        yield Finding(
            "box", f"{box} Angstrom, {self._margin():.2f} from the nearest atom to a wall"
        )

    @cached_property
    def survey(self) -> Survey:
        numbers = range(1, len(SYMBOLS))
        wanted = numbers if self.elements == "auto" else map(element_number, self.elements)
        return survey(self.entries, set(wanted))

    @cached_property
    def _symbols(self) -> tuple[str, ...]:
        """Of the channels; carbon and hydrogen first, as chemists do, the others by number."""
        if self.elements != "auto":
            return self.elements
        found = [int(number) for number in np.flatnonzero(self.survey.counts)]
        return tuple(SYMBOLS[n] for n in sorted(found, key=lambda n: (n != 6, n)) if n)

    @property
    def _num_rows(self) -> int:
        return self.max_atoms or int(self.entries.num_atoms.max())

    @property
    def _is_large(self) -> Array:
        """[E], bool."""
        return np.greater(self.entries.num_atoms, self._num_rows)

    @property
    def _sticks_out(self) -> Array:
        """Which molecules some turn and shift would bring over a wall: [E], bool."""
        return np.any(self._room < 0, axis=-1)

    def _unfit(self) -> list[tuple[Array, str]]:
        """Entries [E] that are no samples, and why."""
        return [
            (self.survey.has_others, f"with elements other than {', '.join(self._symbols)}"),
            (self._is_large, f"of more than {self._num_rows} atoms"),
            (self._sticks_out, "that could leave the box"),
        ]

    @property
    def _room(self) -> Array:
        """Between each molecule's furthest atom and the walls along each axis: [E, 3]."""
        half = np.array(self.lattice.half_box)
        if self.orientation == "principal":
            return half - self.survey.extent
        return half - self.spacing / 2 - self._reach[:, None]

    @property
    def _reach(self) -> Array:
        """Of the furthest atom from the origin of a sample: [E]."""
        return self.survey.reach

    def _margin(self) -> float:
        return float(self._room[self._entries_chosen].min())

    @cached_property
    def _entries_chosen(self) -> Array:
        unfit = [which for which, _ in self._unfit()]
        return np.flatnonzero(~np.logical_or.reduce(unfit))

    @property
    def _chosen(self) -> Array:
        """The entries that are samples. UserError if there is none."""
        if not len(self._entries_chosen):
            listed = "; ".join(f"{int(which.sum()):,} {text}" for which, text in self._unfit())
            box = " x ".join(f"{2 * half:g}" for half in self.lattice.half_box)
            raise UserError(
                f"None of the {len(self.entries):,} molecules of {self.path} fits the box of {box} "
                f"Angstrom: {listed}. Change `data.num_voxels`, `max_atoms` or `elements`."
            )
        return self._entries_chosen

    def _stored(self, molecule: Molecule) -> Array:
        """[max_atoms, 4]: x, y, z and the channel of each atom, NaN beyond the last."""
        x = np.full((self._num_rows, 4), np.nan, dtype=np.float32)
        size = len(molecule.elements)
        points = centred(molecule.positions)
        x[:size, :3] = laid(points) if self.orientation == "principal" else points
        x[:size, 3] = self._channel_of[molecule.elements]
        return x

    @cached_property
    def _channel_of(self) -> Array:
        """Of each atomic number [119]; NaN for those without."""
        channels = np.full(len(SYMBOLS), np.nan, dtype=np.float32)
        for channel, symbol in enumerate(self._symbols):
            channels[element_number(symbol)] = channel
        return channels
