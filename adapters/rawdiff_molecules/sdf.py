"""Molecules of SDF files, with bonds and charge, read by RDKit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rawdiff_molecules.checking import checked_molecule
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.optional import require_rdkit
from rawdiff_molecules.ragged import Reject, record_of

ORDERS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 4, "DATIVE": 1}
DIMENSIONS = slice(20, 22)  # of a record's second line: 2D or 3D


def read_sdf(lines: Iterable[str], source: str, name: str) -> Iterator[Molecule | Reject]:
    """Every record. Its id is its title, or `name` and its number if it has none."""
    for number, record in enumerate(_records(lines), start=1):
        title = record[0].strip()
        yield _molecule(title or f"{name}:{number}", record_of(source, number), record)


def _records(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines up to each $$$$; a last record may lack it."""
    record: list[str] = []
    for line in lines:
        if line.startswith("$$$$"):
            yield record or [""]
            record = []
        else:
            record.append(line.rstrip("\r\n"))
    if any(line.strip() for line in record):
        yield record


def _molecule(key: str, source: str, record: list[str]) -> Molecule | Reject:
    chem = require_rdkit()
    if len(record) > 1 and record[1][DIMENSIONS] == "2D":
        return Reject(key, source, "a drawing (2D), without coordinates in space")
    end = next((i for i, line in enumerate(record) if line.startswith("M  END")), None)
    if end is None:
        return Reject(key, source, "the record ends without M  END")
    found = chem.MolFromMolBlock("\n".join(record[: end + 1]), sanitize=False, strictParsing=True)
    if found is None:
        return Reject(key, source, "RDKit cannot read the record")
    kinds = {str(bond.GetBondType()) for bond in found.GetBonds()}
    if not kinds <= set(ORDERS):
        return Reject(key, source, f"bonds of the kind {min(kinds - set(ORDERS))}")
    bonds = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), ORDERS[str(bond.GetBondType())])
        for bond in found.GetBonds()
    ]
    return checked_molecule(
        key,
        source,
        [atom.GetSymbol() for atom in found.GetAtoms()],
        found.GetConformer().GetPositions(),
        charge=sum(atom.GetFormalCharge() for atom in found.GetAtoms()),
        bonds=np.array(bonds, np.int32).reshape(-1, 3),
    )
