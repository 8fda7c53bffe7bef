"""A dataset whose samples are made of the entries of files: molecules, or chains of proteins."""

from __future__ import annotations

from abc import ABC
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import PrivateAttr

from rawdiff.data.dataset import Array, Dataset, Finding
from rawdiff.data.packed import packed_folder
from rawdiff.errors import UserError, WrongDataError
from rawdiff_molecules.files import File, find_files, read_file, suffixes
from rawdiff_molecules.layout import Layout
from rawdiff_molecules.packing import packing
from rawdiff_molecules.ragged import Entries, Kind
from rawdiff_molecules.reading import Reading

PACKED_NAME = "entries.h5"
NUM_SHOWN = 5  # reasons of rejects


class EntryDataset(Dataset, ABC):
    """Entries of files: molecules, or chains of proteins.

    Files are read once, by `rawdiff prepare`; samples are made from the packed copy.
    """

    kind: ClassVar[Kind]
    stored_by: ClassVar[tuple[str, ...]] = ("path", "layout", "repeated_ids")
    """The settings that say what is read; others only select of it."""

    path: str
    """A file, a folder, a list of files (.txt), or a packed file (.h5)."""
    layout: Layout | None = None
    """Of an HDF5 file of somebody else's arrays, which `path` then is."""
    repeated_ids: Literal["reject", "number"] = "reject"
    """An entry of an id that was there before is rejected, or kept under the id and a number, as
    conformers need that share a title."""
    _copy: Path | None = PrivateAttr(default=None)

    @property
    def reading(self) -> Reading:
        return Reading(layout=self.layout)

    @cached_property
    def entries(self) -> Entries:
        """UserError where `path` is not packed yet, or holds entries of another kind."""
        if self._copy is None and not self._is_packed:
            self._files()
            raise UserError(
                f"{self.path} is not packed yet: run `rawdiff prepare` with this recipe, once, in "
                "the folder where you train."
            )
        entries = Entries(self._copy or Path(self.path))
        if entries.kind != self.kind:
            raise WrongDataError(f"{entries.path} holds {entries.kind}, not {self.kind}.")
        if not len(entries):
            raise WrongDataError(
                f"No {self.kind} could be read from {self.path}; rejects: {_reasons(entries)}."
            )
        return entries

    @property
    def _is_packed(self) -> bool:
        """Whether `path` itself is a packed file, and nothing is to be read from other files."""
        return self.layout is None and Path(self.path).suffix == ".h5"

    def _files(self) -> list[File]:
        return find_files(self.path, suffixes(self.kind, self.layout))

    def pack(self, root: Path, progress: Callable[[int, int], None]) -> Path:
        """One file of all entries; a call that was stopped starts anew."""
        if self._is_packed:
            return self.entries.path
        path = self._packed_path(root)
        if self.packed(root) is None:
            files = self._files()
            numbered = self.repeated_ids == "number"
            with packing(self.kind, path, number_repeated=numbered) as target:
                for number, file in enumerate(files):
                    progress(number, len(files))
                    target.begin(file.source)
                    for found in read_file(file, self.kind, self.reading):
                        target.add(found)
            progress(len(files), len(files))
        return path

    def packed(self, root: Path) -> Self | None:
        path = self._packed_path(root)
        if self._is_packed or not path.is_file():
            return None
        copy = type(self)(**self.model_dump())
        copy._copy = path
        self._require_same_files(copy.entries)
        return copy

    def _packed_path(self, root: Path) -> Path:
        return packed_folder(self, root, self.stored_by) / PACKED_NAME

    def _require_same_files(self, entries: Entries) -> None:
        """UserError unless the files are as they were; they may be gone."""
        try:
            files = self._files()
        except UserError:
            return
        found = [file.source for file in files]
        if found != entries.sources:
            changed = set(found) ^ set(entries.sources)
            raise WrongDataError(
                f"{entries.path} was packed from other files than those of {self.path} now: "
                f"{len(changed)} differ, such as {min(changed).name}. Delete the copy and run "
                "`rawdiff prepare` again."
            )

    def findings(self) -> Iterator[Finding]:
        """How many entries there are, of which sizes, and what was not read and why."""
        entries = self.entries
        files = len(entries.sources)
        yield Finding(self.kind, f"{len(entries):,} from {files:,} file{'s' if files != 1 else ''}")
        if entries.num_atoms.any():
            yield Finding("atoms", _spread(entries.num_atoms))
        if len(entries) and self.kind == "chains":
            yield Finding("residues", _spread(entries.num_residues))
        yield Finding("rejects", _reasons(entries))
        if entries.left_out:
            parts = [f"{count:,} {what}" for what, count in sorted(entries.left_out.items())]
            yield Finding("left out", ", ".join(parts))


class ChainDataset(EntryDataset, ABC):
    """Chains of proteins."""

    kind: ClassVar[Kind] = "chains"
    stored_by: ClassVar[tuple[str, ...]] = (*EntryDataset.stored_by, "models", "chains")

    models: Literal["first", "all"] = "first"
    """Which of a file's models are read."""
    chains: Literal["split", "together"] = "split"
    """Each chain is an entry, or all chains of a model `together` are one."""

    @property
    def reading(self) -> Reading:
        return Reading(self.models, self.chains, self.layout)


def _reasons(entries: Entries) -> str:
    """How many rejects there are, and for which reasons."""
    reasons = Counter(reject.reason for reject in entries.rejects).most_common()
    listed = "; ".join(f"{count:,} {reason}" for reason, count in reasons[:NUM_SHOWN])
    more = f"; {len(reasons) - NUM_SHOWN} other reasons" if len(reasons) > NUM_SHOWN else ""
    return f"{len(entries.rejects):,}: {listed}{more}" if reasons else "none"


def _spread(sizes: Array) -> str:
    return (
        f"{sizes.min():,} to {sizes.max():,}, median {np.median(sizes):g}, {sizes.sum():,} in all"
    )
