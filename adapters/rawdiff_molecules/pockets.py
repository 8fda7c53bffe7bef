"""A dataset of molecules with the protein around each of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from rawdiff.data.dataset import Array, Finding
from rawdiff.data.packed import fingerprint
from rawdiff.errors import UserError, WrongDataError
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.files import find_files
from rawdiff_molecules.lattice import Lattice
from rawdiff_molecules.pocket import VAN_DER_WAALS, Pocket, PocketElement
from rawdiff_molecules.pocket_packing import Proteins, pack_pockets
from rawdiff_molecules.ragged import Entries
from rawdiff_molecules.source import EntryDataset
from rawdiff_molecules.structures import TABLES


class PocketDataset(EntryDataset, ABC):
    """Molecules, or with `pockets` those in the pockets of proteins that they bind to.

    A molecule without a pocket is left out, and counted.
    """

    pockets: str | None = None
    """A folder: X.pdb, X.cif or X.bcif (also .gz) is the protein of the molecule of id X, or of
    those in the file X.sdf, in the same coordinates (default: no pockets)."""
    pocket_elements: tuple[PocketElement, ...] = Field(("C", "N", "O", "S"), min_length=1)
    """Elements of the protein's atoms, each a channel of context."""
    pocket_radius: Annotated[float, Field(gt=0)] | None = None
    """Radius of these atoms (default: their van der Waals radii). [Angstrom]"""
    max_pocket_atoms: int | None = Field(default=None, ge=1)
    """Molecules with more of them around are left out, and counted (default: any number).
    [atoms]"""
    _pocket_copy: Path | None = PrivateAttr(default=None)

    @field_validator("pocket_elements")
    @classmethod
    def _once(cls, elements: tuple[PocketElement, ...]) -> tuple[PocketElement, ...]:
        if len(set(elements)) < len(elements):
            raise ValueError(f"an element stands twice in {list(elements)}")
        return elements

    @property
    @abstractmethod
    def box(self) -> Lattice:
        """The lattice without its channels, known without any file."""

    @property
    @abstractmethod
    def max_move(self) -> float:
        """How far from the origin a molecule's middle may be moved along each axis, in Angstrom."""

    @property
    def pocket(self) -> Pocket:
        symbols: Sequence[str] = self.pocket_elements
        radii = {symbol: self.pocket_radius or VAN_DER_WAALS[symbol] for symbol in symbols}
        return Pocket(radii, self.box)

    @cached_property
    def pocket_entries(self) -> Entries:
        """The atoms around each molecule, under its id. UserError where they are not packed yet."""
        if self._pocket_copy is None:
            raise UserError(
                f"The pockets in {self.pockets} are not packed yet, or for another box: run "
                "`rawdiff prepare` with this recipe, once, in the folder where you train."
            )
        return Entries(self._pocket_copy)

    def pack(self, root: Path, progress: Callable[[int, int], None]) -> Path:
        """With the pockets beside the entries."""
        path = super().pack(root, progress)
        target = self._pocket_path(root)
        if target is not None and not target.is_file():
            pack_pockets(Entries(path), self._proteins(), target, self._pocket_reach, progress)
        return path

    def packed(self, root: Path) -> Self | None:
        copy, target = super().packed(root), self._pocket_path(root)
        if target is None or not target.is_file():
            return copy
        if copy is None and self._is_packed:
            copy = type(self)(**self.model_dump())
        if copy is not None:
            copy._pocket_copy = target
            copy._require_same_proteins()
        return copy

    def _pocket_path(self, root: Path) -> Path | None:
        """Where the packed pockets belong; None where none are to be packed."""
        if self.pockets is None:
            return None
        name = f"pockets-{fingerprint(self, ['pockets'])}-{self._pocket_reach}.h5"
        return self._packed_path(root).with_name(name)

    @property
    def _pocket_reach(self) -> int:
        """Angstrom from a molecule's middle, however it is turned and moved."""
        return math.ceil(self.pocket.reach + math.sqrt(3) * self.max_move)

    def _proteins(self) -> Proteins:
        return Proteins(find_files(self.pockets or "", tuple(TABLES)))

    def _require_same_proteins(self) -> None:
        """UserError unless the files of proteins are as they were; they may be gone."""
        try:
            proteins = self._proteins()
        except UserError:
            return
        found = {file.source for _, file in proteins.of_all(self.entries) if file is not None}
        if changed := found ^ set(self.pocket_entries.sources):
            raise WrongDataError(
                f"{self._pocket_copy} was packed from other files than those of {self.pockets} "
                f"now: {len(changed)} differ, such as {min(changed).name}. Delete the copy and run "
                "`rawdiff prepare` again."
            )

    @cached_property
    def pocket_rows(self) -> Array:
        """Which of the pockets is that of each entry, int64 [E]; -1 for none."""
        rows = {name: row for row, name in enumerate(self.pocket_entries.ids)}
        return np.array([rows.get(name, -1) for name in self.entries.ids], dtype=np.int64)

    @property
    def num_pocket_atoms(self) -> Array:
        """Of each entry, int64 [E]; 0 without a pocket."""
        return np.append(self.pocket_entries.num_atoms, 0)[self.pocket_rows]

    def pocket_unfit(self) -> list[tuple[Array, str]]:
        """Which entries [E] (bool) are no samples for the sake of their pockets, and why."""
        if self.pockets is None:
            return []
        unfit = [(self.pocket_rows < 0, "without a pocket")]
        if self.max_pocket_atoms is not None:
            is_large = self.num_pocket_atoms > self.max_pocket_atoms
            unfit.append((is_large, f"in pockets of more than {self.max_pocket_atoms} atoms"))
        return unfit

    def pocket_cure(self) -> str:
        """For the error that no molecule fits."""
        if self.pockets is None:
            return ""
        name = self.entries.ids[0]
        return f", `max_pocket_atoms`, or name the files in {self.pockets} by ids: {name}.pdb"

    @property
    def pocket_meaning(self) -> Mapping[str, str]:
        """For `DataInfo.meaning`."""
        return {} if self.pockets is None else self.pocket.meaning

    @property
    def context_shape(self) -> tuple[int, int] | None:
        """Of the atoms of a pocket as they are stored; None without pockets."""
        if self.pockets is None:
            return None
        most = int(self.pocket_entries.num_atoms.max(initial=1))
        return min(self.max_pocket_atoms or most, most), 4

    def contexts(self, rows: Array, molecules: Sequence[Molecule]) -> list[Array | None]:
        """Of the molecules of these entries: x, y, z and channel of the atoms around the middle of
        each, [max_pocket_atoms, 4], NaN beyond the last. None without pockets.
        """
        if (shape := self.context_shape) is None:
            return [None] * len(molecules)
        found = self.pocket_entries.molecules(self.pocket_rows[rows])
        contexts: list[Array | None] = []
        for molecule, around in zip(molecules, found, strict=True):
            context = np.full(shape, np.nan, dtype=np.float32)
            middle = molecule.positions.mean(0, dtype=np.float64)
            own = self.pocket.rows(around.elements, around.positions - middle, self._pocket_reach)
            context[: len(own)] = own
            contexts.append(context)
        return contexts

    def findings(self) -> Iterator[Finding]:
        """With how many proteins there are, and which molecules have none and why."""
        yield from super().findings()
        if self.pockets is None:
            return
        sizes = self.pocket_entries.num_atoms
        reasons = Counter(reject.reason for reject in self.pocket_entries.rejects)
        missing = "".join(f"; {count:,} {reason}" for reason, count in reasons.most_common(5))
        middle = f" of {np.median(sizes):g} atoms (median)" if len(sizes) else ""
        yield Finding("pockets", f"{len(sizes):,}{middle}{missing}")
