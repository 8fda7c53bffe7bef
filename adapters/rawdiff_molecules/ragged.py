"""Entries of different sizes in one HDF5 file: flat arrays and offsets, read without a handle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import h5py
import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import WrongDataError
from rawdiff_molecules.entry import Chain, Molecule

Kind: TypeAlias = Literal["molecules", "chains"]
FORMAT, VERSION, UNITS = "rawdiff-molecules", 1, "angstrom"


class Column(NamedTuple):
    """Of a flat array: dtype and the shape of one row."""

    dtype: str
    row: tuple[int, ...] = ()


COLUMNS: dict[Kind, dict[str, Column]] = {
    "molecules": {
        "entries/charge": Column("<i2"),
        "entries/has_bonds": Column("|u1"),
        "entries/atom_offsets": Column("<i8"),
        "entries/bond_offsets": Column("<i8"),
        "atoms/elements": Column("|u1"),
        "atoms/positions": Column("<f4", (3,)),
        "bonds/atoms_and_order": Column("<i4", (3,)),
    },
    "chains": {
        "entries/residue_offsets": Column("<i8"),
        "residues/names": Column("|S8"),
        "residues/numbers": Column("<i4"),
        "residues/insertion_codes": Column("|S1"),
        "residues/index": Column("<i4"),
        "residues/chain_ids": Column("|S8"),
        "residues/backbone": Column("<f4", (4, 3)),
        "residues/atom_offsets": Column("<i8"),
        "atoms/names": Column("|S8"),
        "atoms/elements": Column("|u1"),
        "atoms/positions": Column("<f4", (3,)),
    },
}
ORIGIN = {"entries/source": Column("<i4"), "entries/record": Column("<i8")}
"""Where an entry is from: a row of `sources`, and which record of that file it is, from 1."""

TEXTS = ("ids", "sources", "rejects/id", "rejects/source", "rejects/reason")
"""Groups of `text` (UTF-8 bytes, one after the other) and `offsets`."""


SMALL = ("/entries/", "/ids/", "/sources/", "/rejects/")
OF_RESIDUE = ("names", "numbers", "insertion_codes", "index", "chain_ids", "backbone")
OF_ATOM = ("names", "elements", "positions")


class Reject(NamedTuple):
    """What was not read, and why. `id` is "" where not even that could be read."""

    id: str
    source: str
    reason: str


class Source(NamedTuple):
    """A file that was read, and its size when it was."""

    name: str
    num_bytes: int


def record_of(source: str, number: int) -> str:
    """The `source` of an entry: a file, and which of its records it is, from 1."""
    return f"{source}#{number}"


class Entries:
    """The molecules or chains of a packed file.

    WrongDataError, at first use, for a file of another kind or version.

    Arrays are mapped from the file, so that no handle stays open: processes may be forked or
    spawned at any time, and each one reads for itself.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __len__(self) -> int:
        return len(self._arrays["entries/source"])

    @property
    def kind(self) -> Kind:
        return self._opened[0]["kind"]

    @property
    def left_out(self) -> dict[str, int]:
        """How many things of each name (such as water residues) the files had beside entries."""
        return json.loads(self._opened[0]["left_out"])

    @property
    def num_atoms(self) -> Array:
        """[E], int64."""
        if self.kind == "molecules":
            return np.diff(self._arrays["entries/atom_offsets"])
        return np.diff(self._take("residues/atom_offsets", self._arrays["entries/residue_offsets"]))

    @property
    def num_residues(self) -> Array:
        """[E], int64; of chains."""
        return np.diff(self._arrays["entries/residue_offsets"])

    @cached_property
    def ids(self) -> list[str]:
        return self._texts("ids")

    @cached_property
    def sources(self) -> list[Source]:
        sizes = self._arrays["sources/num_bytes"].tolist()
        return [Source(*pair) for pair in zip(self._texts("sources"), sizes, strict=True)]

    @cached_property
    def rejects(self) -> list[Reject]:
        parts = (self._texts(f"rejects/{name}") for name in Reject._fields)
        return [Reject(*texts) for texts in zip(*parts, strict=True)]

    def molecules(self, indices: Sequence[int] | Array) -> list[Molecule]:
        """In the order of `indices`; IndexError for one that is not there."""
        order, back = self._sorted(indices)
        atoms, a = self._children("entries/atom_offsets", order)
        bonds, b = self._children("entries/bond_offsets", order)
        elements, positions, pairs = (
            self._take(name, rows)
            for name, rows in (
                ("atoms/elements", atoms),
                ("atoms/positions", atoms),
                ("bonds/atoms_and_order", bonds),
            )
        )
        charges = self._take("entries/charge", order).tolist()
        has_bonds = self._take("entries/has_bonds", order).tolist()
        found = [
            Molecule(
                *origin,
                elements[a[i] : a[i + 1]],
                positions[a[i] : a[i + 1]],
                charges[i],
                pairs[b[i] : b[i + 1]] if has_bonds[i] else None,
            )
            for i, origin in enumerate(self._origins(order))
        ]
        return [found[i] for i in back]

    def chains(self, indices: Sequence[int] | Array, *, atoms: bool = True) -> list[Chain]:
        """In the order of `indices`; IndexError for one that is not there.

        Without `atoms` they have their backbones alone, and are read several times as fast.
        """
        order, back = self._sorted(indices)
        residues, r = self._children("entries/residue_offsets", order)
        rows, ends = self._children("residues/atom_offsets", residues, atoms)
        names, numbers, codes, index, chain_ids, backbone = (
            self._take(f"residues/{name}", residues) for name in OF_RESIDUE
        )
        atom_names, elements, positions = (self._take(f"atoms/{name}", rows) for name in OF_ATOM)
        offsets = np.array(ends)
        found = []
        for i, (key, source) in enumerate(self._origins(order)):
            own, own_atoms = slice(r[i], r[i + 1]), slice(ends[r[i]], ends[r[i + 1]])
            found.append(
                Chain(
                    key,
                    source,
                    names[own],
                    numbers[own],
                    codes[own],
                    index[own],
                    chain_ids[own],
                    backbone[own],
                    offsets[r[i] : r[i + 1] + 1] - ends[r[i]],
                    atom_names[own_atoms],
                    elements[own_atoms],
                    positions[own_atoms],
                )
            )
        return [found[i] for i in back]

    def _sorted(self, indices: Sequence[int] | Array) -> tuple[Array, list[int]]:
        """Neighbours in the file are read together; where each of `indices` then is."""
        wanted = np.asarray(indices, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"{self.path} has entries 0 to {len(self) - 1}, not all of {indices}")
        order, back = np.unique(wanted, return_inverse=True)
        return order, back.tolist()

    def _children(
        self, offsets: str, parents: Array, wanted: bool = True
    ) -> tuple[Array, list[int]]:
        """The rows of the children of all parents, and the offsets of each parent's in these.

        As if they had none where children are not `wanted`.
        """
        first = self._take(offsets, parents)
        counts = (self._take(offsets, parents + 1) - first) * wanted
        ends = np.concatenate([[0], np.cumsum(counts)])
        return np.repeat(first - ends[:-1], counts) + np.arange(ends[-1]), ends.tolist()

    def _take(self, name: str, rows: Array) -> Array:
        """Rows of a column, in a copy; bytes as text."""
        arrays = self._arrays
        values = arrays[name][rows] if name in arrays else self._read(name, rows)
        return values.astype(f"U{values.itemsize}") if values.dtype.kind == "S" else values

    def _read(self, name: str, rows: Array) -> Array:
        """Of a column that cannot be mapped: each stretch of neighbouring rows at once."""
        stretches = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        with h5py.File(self.path, locking=False) as file:
            values = file[name]
            return np.concatenate(
                [values[:0], *(values[part[0] : part[-1] + 1] for part in stretches if len(part))]
            )

    def _origins(self, order: Array) -> list[tuple[str, str]]:
        """Id and source of entries."""
        letters, ends = self._children("ids/offsets", order)
        text = self._take("ids/text", letters).tobytes()
        rows = self._take("entries/source", order).tolist()
        records = self._take("entries/record", order).tolist()
        sources = self.sources
        return [
            (text[a:b].decode(), record_of(sources[row].name, record))
            for a, b, row, record in zip(ends[:-1], ends[1:], rows, records, strict=True)
        ]

    def _texts(self, group: str) -> list[str]:
        text = self._arrays[f"{group}/text"].tobytes()
        ends = self._arrays[f"{group}/offsets"].tolist()
        return [text[a:b].decode() for a, b in pairwise(ends)]

    @property
    def _arrays(self) -> dict[str, Array]:
        return self._opened[1]

    @cached_property
    def _opened(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Attributes; arrays, but no large ones that cannot be mapped."""
        try:
            with h5py.File(self.path, locking=False) as file:
                header = dict(file.attrs)
                _require_format(self.path, header)
                found = {name: _array(self.path, file[name]) for name in _names(header["kind"])}
        except (OSError, KeyError) as error:
            raise WrongDataError(
                f"{self.path} cannot be read as a packed file: {error}. If it is one, it is "
                "damaged: delete it, and let `rawdiff prepare` pack it again."
            ) from error
        return header, {name: array for name, array in found.items() if array is not None}


def _names(kind: Kind) -> list[str]:
    texts = [f"{group}/{part}" for group in TEXTS for part in ("text", "offsets")]
    return [*COLUMNS[kind], *ORIGIN, *texts, "sources/num_bytes"]


def _array(path: Path, stored: Any) -> Array | None:
    """Mapped, or in memory if that cannot be and it is small; else None.

    A column of another file, or one that somebody compressed, cannot be mapped.
    """
    place = stored.id.get_offset()
    if place is not None and stored.size:
        return np.memmap(path, stored.dtype, "r", place, stored.shape).view(np.ndarray)
    is_small = stored.name.startswith(SMALL) or not stored.size
    return stored[()] if is_small else None


def _require_format(path: Path, header: dict[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise WrongDataError(
            f"{path} is an HDF5 file, but not one that `rawdiff prepare` packed (its `format` is "
            f"{header.get('format')!r}). To read its arrays, name them in `data.layout`."
        )
    if header["version"] > VERSION:
        raise WrongDataError(
            f"{path} is of version {header['version']} of the format; this rawdiff knows those up "
            f"to {VERSION}. Update rawdiff, or pack the source again with this one."
        )
