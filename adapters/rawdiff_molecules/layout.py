"""Arrays of any HDF5 file as entries, by the names that its datasets have there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pydantic import Field, PositiveFloat

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff.settings import Settings
from rawdiff_molecules.checking import checked_molecule
from rawdiff_molecules.entry import BACKBONE, Chain, Molecule
from rawdiff_molecules.optional import require_gemmi
from rawdiff_molecules.ragged import Kind, Reject, record_of

ENTRIES_AT_ONCE = 1024
ONE_LETTER, UNKNOWN = "ACDEFGHIKLMNPQRSTUVWY", "UNK"


class Layout(Settings):
    """The names of datasets (`group/name`) in an HDF5 file of flat arrays.

    Entry e has the rows offsets[e] … offsets[e + 1] - 1 of the others.
    """

    coordinates: str
    """Positions: [rows, 3] of a molecule's atoms, or [rows, K, 3] of the residues of a chain."""
    offsets: str
    """First row of each entry, and the end of the last."""
    elements: str | None = None
    """Symbols or numbers of the atoms of molecules, which need them."""
    atoms: tuple[str | None, ...] = Field(default=BACKBONE, min_length=1)
    """Names of the K atoms of a residue; `null` for one that is not read."""
    sequence: str | None = None
    """One or three letters for each residue."""
    numbers: str | None = None
    """Number of each residue, where a gap is a missing residue."""
    id: str | None = None
    """Id of each entry (default: the file's name and a number)."""
    scale: PositiveFloat = 1.0
    """Angstrom of one unit of the coordinates: 10 for nanometres. [Angstrom]"""


def read_layout(
    path: Path, kind: Kind, layout: Layout, source: str, name: str
) -> Iterator[Molecule | Chain | Reject]:
    """Every entry. UserError where the layout does not fit the file."""
    try:
        with h5py.File(path, locking=False) as file:
            flat = _Flat(file, kind, layout)
            for start in range(0, len(flat.offsets) - 1, ENTRIES_AT_ONCE):
                yield from flat.read(start, source, name)
    except OSError as error:
        raise UserError(f"{path} cannot be read as HDF5: {error}.") from error


class _Flat:
    """An open file, whose arrays are known to fit together."""

    def __init__(self, file: h5py.File, kind: Kind, layout: Layout) -> None:
        self.file, self.kind, self.layout = file, kind, layout
        if kind == "molecules" and layout.elements is None:
            raise UserError("Molecules need `data.layout.elements`: the name of that dataset.")
        self.offsets = np.asarray(self._dataset("offsets")[()], dtype=np.int64)
        shape = self._dataset("coordinates").shape
        row = (3,) if kind == "molecules" else (len(layout.atoms), 3)
        if shape[1:] != row:
            raise UserError(
                f"`{layout.coordinates}` in {file.filename} has the shape {shape}, not "
                f"[rows, {', '.join(map(str, row))}]: `data.layout.atoms` names the atoms of a "
                "residue in their order."
            )
        steps = np.diff(self.offsets)
        if not len(steps) or self.offsets[0] < 0 or steps.min() < 0 or self.offsets[-1] > shape[0]:
            raise UserError(
                f"`{layout.offsets}` in {file.filename} must rise from 0 to the number of rows, "
                f"{shape[0]}, with one more than there are entries."
            )
        for key in ("elements", "sequence", "numbers"):
            self._require_length(key, shape[0])
        self._require_length("id", len(steps))

    def _dataset(self, key: str) -> Any:
        name = getattr(self.layout, key)
        if isinstance(self.file.get(name), h5py.Dataset):
            return self.file[name]
        names: list[str] = []
        self.file.visititems(
            lambda found, node: names.append(found) if isinstance(node, h5py.Dataset) else None
        )
        raise UserError(
            f"{self.file.filename} has no dataset `{name}` (`data.layout.{key}`); it has "
            f"{', '.join(names) or 'none'}."
        )

    def _require_length(self, key: str, length: int) -> None:
        if getattr(self.layout, key) is not None:
            found = self._dataset(key)
            if found.shape[:1] != (length,):
                raise UserError(
                    f"`{found.name}` (`data.layout.{key}`) in {self.file.filename} has the shape "
                    f"{found.shape}, where {length} are needed."
                )

    def read(self, start: int, source: str, name: str) -> Iterator[Molecule | Chain | Reject]:
        """ENTRIES_AT_ONCE of them from `start` on."""
        stop = min(start + ENTRIES_AT_ONCE, len(self.offsets) - 1)
        first, last = self.offsets[start], self.offsets[stop]
        rows = {
            key: _text(self._dataset(key)[first:last])
            for key in ("coordinates", "elements", "sequence", "numbers")
            if getattr(self.layout, key) is not None
        }
        rows["coordinates"] = rows["coordinates"] * self.layout.scale
        keys = None if self.layout.id is None else _text(self._dataset("id")[start:stop])
        for entry in range(start, stop):
            key = f"{name}:{entry + 1}" if keys is None else str(keys[entry - start])
            own = slice(self.offsets[entry] - first, self.offsets[entry + 1] - first)
            parts = {part: values[own] for part, values in rows.items()}
            make = self._molecule if self.kind == "molecules" else self._chain
            yield make(key, record_of(source, entry + 1), **parts)

    def _molecule(
        self, key: str, source: str, coordinates: Array, elements: Array, **rest: Array
    ) -> Molecule | Reject:
        symbols = [str(element).strip() for element in elements.tolist()]
        return checked_molecule(key, source, symbols, coordinates)

    def _chain(
        self,
        key: str,
        source: str,
        coordinates: Array,
        sequence: Array | None = None,
        numbers: Array | None = None,
        **rest: Array,
    ) -> Chain | Reject:
        size = len(coordinates)
        backbone = np.full((size, len(BACKBONE), 3), np.nan, np.float32)
        for column, atom in enumerate(BACKBONE):
            if atom in self.layout.atoms:
                backbone[:, column] = coordinates[:, self.layout.atoms.index(atom)]
        if np.isinf(backbone).any():
            return Reject(key, source, "a coordinate is not a finite number")
        if not np.isfinite(backbone).all(axis=2).any():
            return Reject(key, source, "no atom of any backbone")
        places = np.arange(1, size + 1) if numbers is None else numbers
        if (np.diff(places) <= 0).any():
            return Reject(key, source, "its residue numbers do not rise")
        letters = np.full(size, UNKNOWN) if sequence is None else sequence
        return Chain(
            key,
            source,
            names=np.array(
                [
                    self._long_names.get(one, one if len(one) > 1 else UNKNOWN)
                    for one in letters.tolist()
                ]
            ),
            numbers=places.astype(np.int32),
            insertion_codes=np.full(size, " "),
            index=places.astype(np.int32),
            chain_ids=np.full(size, "A"),
            backbone=backbone,
            atom_offsets=np.zeros(size + 1, np.int64),
            atom_names=np.zeros(0, "U1"),
            elements=np.zeros(0, np.uint8),
            positions=np.zeros((0, 3), np.float32),
        )

    @cached_property
    def _long_names(self) -> dict[str, str]:
        """Three letters of an amino acid by its one."""
        gemmi = require_gemmi()
        kind = gemmi.ResidueKind.AA
        return {one: gemmi.expand_one_letter(one, kind) or UNKNOWN for one in ONE_LETTER}


def _text(values: Array) -> Array:
    """Bytes as letters; other values as they are."""
    return np.char.decode(values.astype("S"), "utf-8") if values.dtype.kind in "SO" else values
