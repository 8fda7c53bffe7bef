"""Atoms of PDB, mmCIF and BinaryCIF files as one table, before anything is chosen or left out."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff_molecules.elements import element_number
from rawdiff_molecules.optional import require_gemmi, require_pdbx

NO_PLACE = -(1 << 30)
ELEMENT = re.compile(rb"[ ][ A-Za-z]|[A-Za-z]{2}|[BCDFHIKNOPSUVWXY](?= |$)")
"""What may stand in the columns of the element, also by programs that begin on the left."""


@dataclass(frozen=True)
class AtomTable:
    """A atoms in the order of the file; each field is [A], `positions` [A, 3] in Angstrom.

    Numbers, insertion codes and chain ids are the author's. `places` are those along the polymer
    (label_seq_id), NO_PLACE where the file gives none. Codes are "" where there is none; `hetero`
    is True for HETATM. Elements are atomic numbers, 0 for one that is not known.
    """

    models: Array
    chain_ids: Array
    hetero: Array
    residue_names: Array
    numbers: Array
    insertion_codes: Array
    places: Array
    atom_names: Array
    altlocs: Array
    occupancies: Array
    elements: Array
    positions: Array

    def __len__(self) -> int:
        return len(self.models)

    def take(self, rows: Array) -> AtomTable:
        return AtomTable(**{name: values[rows] for name, values in vars(self).items()})

    @property
    def has_places(self) -> bool:
        return bool((self.places != NO_PLACE).any())


def tables_of_pdb(content: bytes) -> Iterator[tuple[str, AtomTable]]:
    """One, of all models, with "" for its name. UserError if it is no PDB file."""
    gemmi = require_gemmi()
    lines = b"\n".join(_mended(content.splitlines()))
    try:
        structure = gemmi.read_pdb_string(lines, split_chain_on_ter=True)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"gemmi cannot read it: {error}") from error
    flat = gemmi.FlatStructure(structure)
    flat.strings_as_numbers = False
    yield (
        "",
        AtomTable(
            models=flat.model_num,
            chain_ids=flat.chain_ids.astype(str),
            hetero=flat.het_flags == ord("H"),
            residue_names=flat.residue_names.astype(str),
            numbers=flat.resnums,
            insertion_codes=_letters(flat.icodes),
            places=np.full(len(flat.resnums), NO_PLACE),
            atom_names=flat.atom_names.astype(str),
            altlocs=_letters(flat.altlocs),
            occupancies=flat.occ,
            elements=flat.elements,
            positions=flat.pos,
        ),
    )


def _mended(lines: list[bytes]) -> Iterator[bytes]:
    """Lines without what gemmi would take for something else.

    Before 1996 the file's name and the line's number reached to where elements and charges stand
    today. Residues whose numbers begin anew would be joined with those before: TER parts them.
    UserError for coordinates that are no numbers, which gemmi would read as 0.
    """
    before = 0
    for number, line in enumerate(lines, start=1):
        if not line.startswith((b"ATOM  ", b"HETATM")):
            yield line
            continue
        try:
            for start in (30, 38, 46):
                float(line[start : start + 8])
        except ValueError:
            text = line[30:54].decode(errors="replace")
            raise UserError(f"line {number} has the coordinates {text!r}") from None
        residue = int(line[22:26]) if line[22:26].strip().isdigit() else before
        if residue < before:
            yield b"TER"
        before = residue
        element = ELEMENT.match(line[76:78])
        yield line[:76] + (element[0] if element else b"")


def _letters(codes: Array) -> Array:
    """Of int8 codes, "" for blanks and zeros."""
    return np.char.strip(np.where(codes == 0, ord(" "), codes).astype(np.uint8).view("S1")).astype(
        str
    )


def tables_of_cif(content: bytes) -> Iterator[tuple[str, AtomTable]]:
    """One for each block that has atoms, with its name. UserError if it is no mmCIF file."""
    try:
        document = require_gemmi().cif.read_string(content)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"gemmi cannot read it: {error}") from error
    for block in document:
        columns = block.get_mmcif_category("_atom_site.")
        if columns:
            # "?" comes as None, "." as False
            texts = {name: np.array([v or "" for v in column]) for name, column in columns.items()}
            yield block.name, _table_of_columns(texts)


def tables_of_bcif(content: bytes) -> Iterator[tuple[str, AtomTable]]:
    """One for each block that has atoms, with its name. UserError if it is no BinaryCIF file."""
    pdbx = require_pdbx()
    try:
        for name, block in pdbx.BinaryCIFFile.read(io.BytesIO(content)).items():
            if "atom_site" in block:
                columns = block["atom_site"]
                texts = {key: columns[key].as_array(str, masked_value="") for key in columns}
                yield name, _table_of_columns(texts)
    except UserError:
        raise
    except Exception as error:  # of msgpack or of any decoding
        raise UserError(f"biotite cannot read it: {type(error).__name__} {error}") from error


def _table_of_columns(texts: Mapping[str, Array]) -> AtomTable:
    """Of the category atom_site, "" where it says ? or . ; UserError without its own columns."""
    size = len(next(iter(texts.values())))

    def text(*names: str, default: str | None = None) -> Array:
        for name in names:
            if name in texts:
                return texts[name]
        if default is None:
            raise UserError(f"_atom_site has no column {names[0]}")
        return np.full(size, default)

    def number(*names: str, default: str | None = None, missing: str, dtype: Any) -> Array:
        values = text(*names, default=default)
        try:
            return np.where(values == "", missing, values).astype(dtype)
        except ValueError as error:
            raise UserError(f"_atom_site.{names[0]}: {error}") from error

    symbols, which = np.unique(text("type_symbol"), return_inverse=True)
    elements = np.array([element_number(symbol) for symbol in symbols.tolist()], np.uint8)
    places = number("label_seq_id", default="", missing=str(NO_PLACE), dtype=np.int64)
    axes = [number(f"Cartn_{axis}", missing="nan", dtype=np.float64) for axis in "xyz"]
    return AtomTable(
        models=number("pdbx_PDB_model_num", default="1", missing="1", dtype=np.int32),
        chain_ids=text("auth_asym_id", "label_asym_id"),
        hetero=text("group_PDB", default="ATOM") == "HETATM",
        residue_names=text("auth_comp_id", "label_comp_id"),
        numbers=_author_numbers(number, places),
        insertion_codes=text("pdbx_PDB_ins_code", default=""),
        places=places,
        atom_names=text("auth_atom_id", "label_atom_id"),
        altlocs=text("label_alt_id", default=""),
        occupancies=number("occupancy", default="1", missing="1", dtype=np.float32),
        elements=elements[which.reshape(-1)],
        positions=np.stack(axes, axis=1),
    )


def _author_numbers(number: Any, places: Array) -> Array:
    """The author's, or the places where the author gave none."""
    own = number("auth_seq_id", default="", missing=str(NO_PLACE), dtype=np.int64)
    return np.where(own == NO_PLACE, places, own)
