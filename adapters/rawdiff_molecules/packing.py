"""Entries to a packed file (see ragged.py), in a stream: memory does not grow with their number."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np

from rawdiff.errors import UserError
from rawdiff.files import locked
from rawdiff_molecules.entry import Chain, Molecule
from rawdiff_molecules.ragged import (
    COLUMNS,
    FORMAT,
    OF_RESIDUE,
    ORIGIN,
    TEXTS,
    UNITS,
    VERSION,
    Column,
    Kind,
    Reject,
    Source,
)

COPIED_BYTES = 1 << 26  # at a time


class LeftOut(NamedTuple):
    """Something that is in a file and belongs to no entry, such as water."""

    what: str
    number: int


class _Pile:
    """Rows of one column, appended to a file of plain bytes."""

    def __init__(self, path: Path, column: Column) -> None:
        self.path, self.dtype, self.row = path, np.dtype(column.dtype), column.row
        self.num_rows = 0
        self.file: BinaryIO = path.open("wb")

    def add(self, values: Any) -> None:
        array = np.asarray(values).astype(self.dtype).reshape(-1, *self.row)
        self.file.write(array.tobytes())
        self.num_rows += len(array)

    def copy(self, file: h5py.File, name: str) -> None:
        """In one piece and not compressed, so that it can be mapped."""
        self.file.close()
        stored = file.create_dataset(name, (self.num_rows, *self.row), self.dtype)
        num_values = int(np.prod(self.row, initial=1))
        step = max(COPIED_BYTES // (self.dtype.itemsize * num_values), 1)
        for start in range(0, self.num_rows, step):
            rows = np.fromfile(
                self.path,
                self.dtype,
                count=min(step, self.num_rows - start) * num_values,
                offset=start * num_values * self.dtype.itemsize,
            )
            stored[start : start + step] = rows.reshape(-1, *self.row)


class Packing:
    """What is written so far.

    An entry of an id that was there before is rejected, or gets a number behind it
    (`number_repeated`): conformers of one molecule share their title.
    """

    def __init__(self, kind: Kind, folder: Path, *, number_repeated: bool = False) -> None:
        self.number_repeated = number_repeated
        self.kind, self.left_out, self.num_rejects = kind, Counter[str](), 0
        columns = {**COLUMNS[kind], **ORIGIN, "sources/num_bytes": Column("<i8")}
        for group in TEXTS:
            columns[f"{group}/text"] = Column("|u1")
            columns[f"{group}/offsets"] = Column("<i8")
        self._piles = {
            name: _Pile(folder / name.replace("/", "."), column) for name, column in columns.items()
        }
        self._ends = Counter[str]()
        self._seen = Counter[str]()
        self._num_sources = 0
        for name in columns:
            if name.endswith("offsets"):
                self._piles[name].add([0])

    def begin(self, source: Source) -> None:
        """What is added from now on is of this file."""
        self._source = source
        self._text("sources", source.name)
        self._piles["sources/num_bytes"].add([source.num_bytes])
        self._num_sources += 1

    def add(self, found: Molecule | Chain | Reject | LeftOut) -> None:
        if isinstance(found, LeftOut):
            self.left_out[found.what] += found.number
        elif isinstance(found, Reject):
            self.num_rejects += 1
            for name, text in found._asdict().items():
                self._text(f"rejects/{name}", text)
        elif self._seen[found.id] and not self.number_repeated:
            self.add(Reject(found.id, found.source, "an entry of this id was there before"))
        else:
            self._seen[found.id] += 1
            before = self._seen[found.id] - 1
            self._text("ids", f"{found.id}#{before + 1}" if before else found.id)
            self._piles["entries/source"].add([self._num_sources - 1])
            self._piles["entries/record"].add([int(found.source.rpartition("#")[2])])
            if isinstance(found, Molecule):
                self._molecule(found)
            else:
                self._chain(found)

    def _molecule(self, found: Molecule) -> None:
        bonds = np.zeros((0, 3), np.int32) if found.bonds is None else found.bonds
        self._piles["entries/charge"].add([found.charge])
        self._piles["entries/has_bonds"].add([found.bonds is not None])
        self._children("entries/atom_offsets", [len(found.elements)])
        self._children("entries/bond_offsets", [len(bonds)])
        self._piles["atoms/elements"].add(found.elements)
        self._piles["atoms/positions"].add(found.positions)
        self._piles["bonds/atoms_and_order"].add(bonds)

    def _chain(self, found: Chain) -> None:
        self._children("entries/residue_offsets", [len(found.names)])
        for name in OF_RESIDUE:
            self._piles[f"residues/{name}"].add(getattr(found, name))
        self._children("residues/atom_offsets", np.diff(found.atom_offsets))
        self._piles["atoms/names"].add(found.atom_names)
        self._piles["atoms/elements"].add(found.elements)
        self._piles["atoms/positions"].add(found.positions)

    def _children(self, offsets: str, counts: Any) -> None:
        ends = self._ends[offsets] + np.cumsum(np.asarray(counts, dtype=np.int64))
        if len(ends):
            self._ends[offsets] = int(ends[-1])
        self._piles[offsets].add(ends)

    def _text(self, group: str, text: str) -> None:
        letters = np.frombuffer(text.encode(), np.uint8)
        self._children(f"{group}/offsets", [len(letters)])
        self._piles[f"{group}/text"].add(letters)

    def finish(self, path: Path) -> None:
        """All that was added, as one HDF5 file."""
        with h5py.File(path, "w", alignment_threshold=1, alignment_interval=64) as file:
            for name, pile in self._piles.items():
                pile.copy(file, name)
            file.attrs.update(
                format=FORMAT,
                version=VERSION,
                kind=self.kind,
                units=UNITS,
                left_out=json.dumps(self.left_out),
            )

    def close(self) -> None:
        for pile in self._piles.values():
            pile.file.close()


@contextmanager
def packing(kind: Kind, path: Path, *, number_repeated: bool = False) -> Iterator[Packing]:
    """Everything that is added becomes the file `path`, once the block is left without an error.

    UserError if it cannot be written, or if another process packs the same.
    """
    parts, partial = path.with_name(f".{path.name}.parts"), path.with_name(f".{path.name}.partial")
    with ExitStack() as stack:
        try:
            parts.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(parts))
            stack.callback(shutil.rmtree, parts, ignore_errors=True)
            stack.callback(partial.unlink, missing_ok=True)
            begun = Packing(kind, parts, number_repeated=number_repeated)
            stack.callback(begun.close)
            yield begun
            begun.finish(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error}. Free some space, or mend the rights of its "
                "folder."
            ) from error
