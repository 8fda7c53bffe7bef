"""Small molecules as densities: atoms are stored, and become densities on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from rawdiff.data.dataset import Array, Batch, DataInfo, Draw, Finding, Sample
from rawdiff.errors import UserError
from rawdiff_molecules.elements import SYMBOLS, element_number
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.lattice import Lattice, voxelize
from rawdiff_molecules.mol3d import Voxels
from rawdiff_molecules.motion import uniform_rotations
from rawdiff_molecules.pockets import PocketDataset
from rawdiff_molecules.ragged import Kind
from rawdiff_molecules.survey import Survey, centred, laid, survey

Length = Annotated[float, Field(gt=0)]

COUNT = "num_"
"""Begins the name of a scalar that counts atoms; the element follows."""


class Molecules(PocketDataset):
    """Molecules as densities [C, X, Y, Z]: in the channel of an element a sum over its atoms.

    An atom at distance d is exp(-(d / 0.93 radius)²). Molecules are centred, and never mirrored.
    Those that could leave the box or have other elements are left out, and counted.
    """

    kind: ClassVar[Kind] = "molecules"

    elements: tuple[str, ...] | Literal["auto"] = "auto"
    """Symbols of the elements, a channel for each; `auto`: those that occur."""
    num_voxels: Voxels = (32, 32, 32)
    """Voxels of the box along x, y and z; one number for all. [voxels]"""
    spacing: Length = 0.4
    """Size of a voxel. [Angstrom]"""
    radius: Length = 0.5
    """Radius of an atom, whatever its element. [Angstrom]"""
    orientation: Literal["random", "none", "principal"] = "random"
    """In training molecules are turned, uniformly over all rotations, and moved (`random`), moved
    alone (`none`), or each is laid in a pose of its own and not moved (`principal`): the longest
    axis along x, the shortest along z, which fits a flatter box and is learned in much less
    time."""
    max_shift: Annotated[float, Field(ge=0)] | None = None
    """How far they are moved along each axis in training (default: half a voxel, with `pockets` 1
    Angstrom). [Angstrom]"""
    max_atoms: int | None = Field(default=None, ge=1)
    """Molecules with more atoms are left out, and counted (default: any number). [atoms]"""
    composition: bool = False
    """Tells the network how many atoms of each element a molecule has, as scalars; new molecules
    are drawn for those of real ones, or for given ones."""

    @field_validator("elements")
    @classmethod
    def _known(cls, elements: tuple[str, ...] | str) -> tuple[str, ...] | str:
        wrong = [name for name in elements if name not in SYMBOLS[1:]]
        if isinstance(elements, tuple) and (wrong or not elements):
            raise ValueError(f"{wrong} are no elements; write symbols such as [C, H, N, O]")
        if len(set(elements)) < len(elements) and isinstance(elements, tuple):
            raise ValueError(f"an element stands twice in {list(elements)}")
        return elements

    @model_validator(mode="after")
    def _agree(self) -> Molecules:
        if self.orientation == "principal" and self.pockets is not None:
            raise ValueError(
                "`orientation: principal` lays a molecule by its own atoms, which are unknown when "
                "one is to be drawn into a pocket; write `orientation: random`"
            )
        if self.orientation == "principal" and self.max_shift is not None:
            raise ValueError(
                "`max_shift` does nothing with `orientation: principal`; leave it away"
            )
        return self

    @property
    def info(self) -> DataInfo:
        lattice = self.lattice
        return DataInfo(
            shape=lattice.shape,
            channels=lattice.elements,
            units=("1",) * len(lattice.elements),
            coordinates=lattice.coordinates,
            scalar_names=self._scalar_names,
            writer="molecules",
            evaluators=("molecules",),
            meaning={**lattice.meaning, "orientation": self.orientation, **self.pocket_meaning},
            num_context_channels=0 if self.pockets is None else len(self.pocket_elements),
            stored_shape=(self._num_rows, 4),
            stored_context_shape=self.context_shape,
        )

    @property
    def lattice(self) -> Lattice:
        return replace(self.box, elements=self._symbols)

    @property
    def box(self) -> Lattice:
        return Lattice(self.num_voxels, self.spacing, self.radius, ())

    @property
    def max_move(self) -> float:
        if self.max_shift is None:
            return self.spacing / 2 if self.pockets is None else 1.0
        return self.max_shift

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        rows = self._chosen[np.asarray(indices, dtype=np.int64)]
        molecules = self.entries.molecules(rows)
        contexts = self.contexts(rows, molecules)
        return [
            Sample(self._stored(molecule), scalars=self._scalars(molecule), context=context)
            for molecule, context in zip(molecules, contexts, strict=True)
        ]

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        """Each molecule turned and moved on its own, with its pocket; none that is `principal`."""
        if self.orientation == "principal":
            return batch
        turn = uniform_rotations(draw) if self.orientation == "random" else None
        shift = (2 * draw(3)[:, None] - 1) * self.max_move

        def moved(atoms: Tensor) -> Tensor:
            points = atoms[..., :3] if turn is None else atoms[..., :3] @ turn
            return torch.cat((points + shift, atoms[..., 3:]), dim=-1)

        context = None if batch.context is None else moved(batch.context)
        return replace(batch, x=moved(batch.x), context=context)

    def render(self, batch: Batch) -> Batch:
        context = None if batch.context is None else self.pocket.voxelize(batch.context)
        return replace(batch, x=voxelize(batch.x, self.lattice), context=context)

    def findings(self) -> Iterator[Finding]:
        """With what was left out, and how much room there is in the box."""
        yield from super().findings()
        yield Finding("samples", f"{len(self):,}; left out: {self._left_out()}")
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
            *self.pocket_unfit(),
        ]

    def _left_out(self) -> str:
        return "; ".join(f"{int(which.sum()):,} {text}" for which, text in self._unfit())

    @property
    def _room(self) -> Array:
        """Between each molecule's furthest atom and the walls along each axis: [E, 3]."""
        half = np.array(self.lattice.half_box)
        if self.orientation == "principal":
            return half - self.survey.extent
        return half - self.max_move - self.survey.reach[:, None]

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
            box = " x ".join(f"{2 * half:g}" for half in self.lattice.half_box)
            cures = "`data.num_voxels`, `max_atoms` or `elements`"
            raise UserError(
                f"None of the {len(self.entries):,} molecules of {self.path} fits the box of {box} "
                f"Angstrom: {self._left_out()}. Change {cures}{self.pocket_cure()}."
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

    @property
    def _scalar_names(self) -> tuple[str, ...]:
        return tuple(COUNT + symbol for symbol in self._symbols) if self.composition else ()

    def _scalars(self, molecule: Molecule) -> Array | None:
        """How many atoms of each channel's element there are, float32 [C]."""
        if not self.composition:
            return None
        channels = self._channel_of[molecule.elements].astype(np.int64)
        return np.bincount(channels, minlength=len(self._symbols)).astype(np.float32)

    @cached_property
    def _channel_of(self) -> Array:
        """Of each atomic number [119]; NaN for those without."""
        channels = np.full(len(SYMBOLS), np.nan, dtype=np.float32)
        for channel, symbol in enumerate(self._symbols):
            channels[element_number(symbol)] = channel
        return channels
