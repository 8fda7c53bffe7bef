"""Chains of proteins of PDB, mmCIF and BinaryCIF files; what is chosen is in docs/molecules.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeAlias

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff_molecules.atom_table import (
    NO_PLACE,
    AtomTable,
    tables_of_bcif,
    tables_of_cif,
    tables_of_pdb,
)
from rawdiff_molecules.entry import Chain
from rawdiff_molecules.optional import MissingLibraryError, require_gemmi
from rawdiff_molecules.packing import LeftOut
from rawdiff_molecules.ragged import Reject, record_of
from rawdiff_molecules.reading import Reading
from rawdiff_molecules.residue_atoms import ResidueAtoms, group_residues
from rawdiff_molecules.residues import fits_chain_id

PEPTIDE_BOND = 2.0  # Angstrom; a real one has 1.33
LONGEST_NAME = 8  # letters of a chain id, a residue or an atom

Tables: TypeAlias = Callable[[bytes], Iterator[tuple[str, AtomTable]]]
TABLES: dict[str, Tables] = {
    ".pdb": tables_of_pdb,
    ".ent": tables_of_pdb,
    ".cif": tables_of_cif,
    ".mmcif": tables_of_cif,
    ".bcif": tables_of_bcif,
}


def read_structure(
    content: bytes, suffix: str, source: str, name: str, reading: Reading
) -> Iterator[Chain | Reject | LeftOut]:
    """Every chain of a file whose name ends in `suffix`; ids begin with `name`."""
    found: list[Chain | Reject | LeftOut] = []
    try:
        tables = [(block, table) for block, table in TABLES[suffix](content) if len(table)]
        for block, table in tables:
            prefix = name if len(tables) == 1 else f"{name}_{block}"
            found += _read_table(table, source, prefix, reading)
        if not tables:
            found.append(Reject(name, record_of(source, 1), "there are no atoms in the file"))
    except MissingLibraryError:
        raise  # no fault of the file: it is no reject
    except UserError as error:
        found.append(Reject(name, record_of(source, 1), str(error)))
    yield from found


def _read_table(
    table: AtomTable, source: str, name: str, reading: Reading
) -> Iterator[Chain | Reject | LeftOut]:
    models = list(dict.fromkeys(table.models.tolist()))
    if reading.models == "first" and len(models) > 1:
        yield LeftOut("models after the first", len(models) - 1)
        models = models[:1]
    for number, model in enumerate(models, start=1):
        atoms = table.take(np.flatnonzero(table.models == model))
        residues, left_out = group_residues(atoms)
        yield from left_out
        protein, others = protein_of(residues)
        yield from others
        prefix = name if len(models) == 1 else f"{name}_{model}"
        if not len(protein.segments):
            yield Reject(prefix, record_of(source, number), "no protein in the file")
        parts = _parts(protein, reading)
        for suffix, part in parts:
            key = prefix if len(parts) == 1 else f"{prefix}_{suffix}"
            yield _chain(part, key, record_of(source, number))


def _parts(protein: ResidueAtoms, reading: Reading) -> list[tuple[str, ResidueAtoms]]:
    """What becomes an entry each; by the chain's id, the second of the same id as `A.2`."""
    if not len(protein.segments):
        return []
    if reading.chains == "together":
        return [("", protein)]
    parts, seen = [], Counter[str]()
    for segment in dict.fromkeys(protein.segments.tolist()):
        part = protein.take(np.flatnonzero(protein.segments == segment))
        chain_id = str(part.atoms.chain_ids[0])
        seen[chain_id] += 1
        number = seen[chain_id]
        parts.append((chain_id if number == 1 else f"{chain_id}.{number}", part))
    return parts


def protein_of(residues: ResidueAtoms) -> tuple[ResidueAtoms, list[LeftOut]]:
    """The residues that are of a protein; how many others there are, by kind."""
    first, backbone = residues.first, residues.backbone()
    complete = np.isfinite(backbone[:, :3]).all(axis=(1, 2))
    kinds = np.array([_kind(name) for name in first.residue_names.tolist()])
    is_amino = (kinds == "amino acid") | complete
    if residues.atoms.has_places:
        polymer = first.places != NO_PLACE
    else:
        polymer = ~first.hetero | _bonded(backbone, residues.segments)
    inside = is_amino & polymer & (kinds != "water residues")
    counts = Counter(kinds[~inside].tolist())
    others = [
        LeftOut("amino acids outside chains" if kind == "amino acid" else kind, count)
        for kind, count in sorted(counts.items())
    ]
    return residues.take(np.flatnonzero(inside)), others


@cache
def _kind(residue_name: str) -> str:
    known = require_gemmi().find_tabulated_residue(residue_name)
    if known.is_amino_acid():
        return "amino acid"
    if known.is_nucleic_acid():
        return "nucleotides"
    return "water residues" if known.is_water() else "other residues"


def _bonded(backbone: Array, segments: Array) -> Array:
    """[R]: whether a residue has a peptide bond to the one before or after it in the file."""
    bonds = np.linalg.norm(backbone[1:, 0] - backbone[:-1, 2], axis=1) < PEPTIDE_BOND
    bonds &= segments[1:] == segments[:-1]
    found = np.zeros(len(segments), dtype=bool)
    found[1:] |= bonds
    found[:-1] |= bonds
    return found


def _chain(part: ResidueAtoms, key: str, source: str) -> Chain | Reject:
    atoms, first = part.atoms, part.first
    if not np.isfinite(atoms.positions).all():
        return Reject(key, source, "a coordinate is not a finite number")
    if not atoms.elements.all():
        unknown = int(np.flatnonzero(atoms.elements == 0)[0])
        return Reject(key, source, f"unknown element of an atom {atoms.atom_names[unknown]}")
    for names in (atoms.chain_ids, atoms.residue_names, atoms.atom_names):
        if names.dtype.itemsize > 4 * LONGEST_NAME and np.char.str_len(names).max() > LONGEST_NAME:
            return Reject(key, source, f"a name is longer than {LONGEST_NAME} letters")
    if wrong := [name for name in map(str, np.unique(atoms.chain_ids)) if not fits_chain_id(name)]:
        return Reject(key, source, f"chain id {wrong[0]!r} is not of 1 to 3 ASCII letters")
    if not np.isfinite(part.backbone()).all(axis=2).any():
        return Reject(key, source, "no atom of any backbone")
    return Chain(
        key,
        source,
        names=first.residue_names,
        numbers=first.numbers.astype(np.int32),
        insertion_codes=np.where(first.insertion_codes == "", " ", first.insertion_codes),
        index=_index(first, part.segments),
        chain_ids=first.chain_ids,
        backbone=part.backbone(),
        atom_offsets=part.offsets,
        atom_names=atoms.atom_names,
        elements=atoms.elements,
        positions=atoms.positions.astype(np.float32),
    )


def _index(first: AtomTable, segments: Array) -> Array:
    """The place of each residue along its chain: a missing one leaves a gap, int32.

    As the file has it (label_seq_id), or else the author's number plus the insertions so far in
    the chain. Where that would not rise, it and all after it move up.
    """
    index = np.empty(len(segments), np.int32)
    for segment in np.unique(segments):
        own = np.flatnonzero(segments == segment)
        places = first.places[own]
        if (places == NO_PLACE).any():
            insertions = np.cumsum(first.insertion_codes[own] != "")
            places = first.numbers[own] + insertions
        falls = np.minimum(np.diff(places) - 1, 0)
        index[own] = places - np.concatenate([[0], np.cumsum(falls)])
    return index
