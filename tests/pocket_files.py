"""Ligands with the proteins around them for tests: an XYZ file and PDB files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from molecule_files import pdb_atom
from rawdiff_molecules.molecules import Molecules

from rawdiff.assemble import PACKED_FOLDER, packed_or_raw

AT = np.array([20.0, -10.0, 5.0])  # where ligands lie, far from 0
LIGAND = [("C", -0.7, 0.1, 0), ("O", 0.7, 0, 0.2), ("N", 0, -1.3, 0.1), ("C", 0.3, 1.2, -0.6)]
BACKBONE = [("N", 0, 0, 0), ("CA", 1.2, 0.8, 0), ("C", 2.4, 0, 0.1), ("O", 2.5, -1.2, 0)]
CYSTEINE = [*BACKBONE, ("SG", 1.2, 2.0, 1.4), ("H", -0.5, 0.8, 0)]


def residue(
    at: Sequence[float], number: int = 1, name: str = "CYS", record: str = "ATOM"
) -> list[str]:
    """Lines of one whose N lies there, from the ligand's place; with sulfur and a hydrogen."""
    return [
        pdb_atom(
            atom,
            name,
            number=str(number),
            at=tuple(np.add(xyz, at) + AT),
            element=atom[0],
            record=record,
        )
        for atom, *xyz in CYSTEINE
    ]


PROTEIN = [*residue((4, 0, 0), 1), *residue((-6, 2, 1), 5), *residue((0, 5, -3), 9)]


def write_ligands(folder: Path, names: Sequence[str]) -> Path:
    """An XYZ file of the same ligand under these ids."""
    folder.mkdir(exist_ok=True)
    frames = []
    for name in names:
        atoms = [(symbol, *(np.array(xyz) + AT)) for symbol, *xyz in LIGAND]
        frames.append("\n".join([str(len(atoms)), name, *(" ".join(map(str, a)) for a in atoms)]))
    path = folder / "ligands.xyz"
    path.write_text("\n".join(frames) + "\n")
    return path


def write_proteins(folder: Path, proteins: Mapping[str, Sequence[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in proteins.items():
        (folder / f"{name}.pdb").write_text("\n".join(lines) + "\n")
    return folder


def prepared(path: Path, pockets: Path, **settings: Any) -> Molecules:
    """As `rawdiff prepare` leaves it in the working folder."""
    raw = Molecules(path=str(path), pockets=str(pockets), **({"num_voxels": 16} | settings))
    raw.pack(PACKED_FOLDER, lambda done, of: None)
    found = packed_or_raw(raw)
    assert isinstance(found, Molecules)
    return found
