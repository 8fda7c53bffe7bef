"""Every real file is read or rejected with a reason, and agrees with gemmi and biotite."""

import csv
import gzip
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import biotite.structure.io.pdb as biotite_pdb
import biotite.structure.io.pdbx as biotite_pdbx
import gemmi
import numpy as np
import pytest
from molecule_files import packed
from rawdiff_molecules.entry import Chain
from rawdiff_molecules.reading import Reading

AMINO_ACIDS = set(gemmi.expand_one_letter_sequence("ACDEFGHIKLMNPQRSTVWY", gemmi.ResidueKind.AA))


class Atom(NamedTuple):
    chain_id: str
    number: int
    insertion_code: str
    residue: str
    name: str


Atoms = dict[Atom, tuple[float, float, float]]


def of_chain(chain: Chain) -> Atoms:
    residues = np.repeat(np.arange(len(chain.names)), np.diff(chain.atom_offsets))
    parts = (chain.chain_ids, chain.numbers, chain.insertion_codes, chain.names)
    columns = [part[residues].tolist() for part in parts]
    keys = map(Atom, *columns, chain.atom_names.tolist())
    return dict(zip(keys, map(tuple, chain.positions.tolist()), strict=True))


def of_biotite(content: bytes, name: str) -> Atoms:
    """With the alternate locations of the highest occupancy."""
    fields: dict[str, Any] = {"model": 1, "altloc": "occupancy"}
    if name.endswith(".pdb.gz"):
        file: Any = biotite_pdb.PDBFile.read(io.StringIO(content.decode()))
        atoms = file.get_structure(**fields)
    elif name.endswith(".bcif.gz"):
        atoms = biotite_pdbx.get_structure(
            biotite_pdbx.BinaryCIFFile.read(io.BytesIO(content)), **fields
        )
    else:
        text = io.StringIO(content.decode())
        atoms = biotite_pdbx.get_structure(biotite_pdbx.CIFFile.read(text), **fields)
    atoms = atoms[np.isin(atoms.res_name, list(AMINO_ACIDS))]
    columns = (atoms.chain_id, atoms.res_id, atoms.ins_code, atoms.res_name, atoms.atom_name)
    return {
        Atom(chain_id, number, code or " ", residue, atom): tuple(position)
        for chain_id, number, code, residue, atom, position in zip(
            *(column.tolist() for column in columns), atoms.coord.tolist(), strict=True
        )
    }


def of_gemmi(content: bytes, name: str) -> dict[Atom, list[tuple[float, ...]]]:
    """With all alternate locations."""
    if name.endswith(".pdb.gz"):
        structure = gemmi.read_pdb_string(content)
    else:
        structure = gemmi.make_structure_from_block(gemmi.cif.read_string(content).sole_block())
    found: dict[Atom, list[tuple[float, ...]]] = {}
    for one in structure[0].all():
        residue = one.residue
        if residue.name in AMINO_ACIDS:
            number, code = residue.seqid.num, residue.seqid.icode
            key = Atom(one.chain.name, number, code, residue.name, one.atom.name)
            found.setdefault(key, []).append(tuple(one.atom.pos.tolist()))
    return found


def assert_same_positions(ours: Atoms, theirs: dict[Atom, Any], common: set[Atom]) -> None:
    """To what a file of three decimals and float32 keep."""
    keys = sorted(common)
    there = np.array([theirs[key] for key in keys])
    np.testing.assert_allclose(np.array([ours[key] for key in keys]), there, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*elements were guessed")
@pytest.mark.parametrize("source", ["ef", "db5", "scop", "mmcif"])
def test_all_files_agree_with_gemmi_and_biotite(source: str, shared: Path, tmp_path: Path) -> None:
    """On residues with their numbers, on atoms, and on coordinates; nothing is rejected."""
    folder = shared / "data/proteins"
    files = sorted(folder.glob("mmcif/*.gz" if source == "mmcif" else f"{source}_*.gz"))
    listed = tmp_path / "files.txt"
    listed.write_text("\n".join(map(str, files)))
    entries = packed(listed, tmp_path / "packed.h5", "chains", Reading(chains="together"))
    assert len(entries) == len(files) > 0
    assert entries.rejects == []
    with (folder / "index.tsv").open() as table:
        counted = {row["id"]: int(row["residues"]) for row in csv.DictReader(table, delimiter="\t")}
    for file, chain in zip(files, entries.chains(range(len(entries))), strict=True):
        content, ours = gzip.decompress(file.read_bytes()), of_chain(chain)
        name = file.name.removesuffix(".pdb.gz")
        assert len(chain.names) == counted.get(name, len(chain.names))
        theirs = of_biotite(content, file.name)
        if file.name == "1k6p.cif.gz":  # its alternate locations are numbered: biotite drops them
            assert set(theirs) < set(ours)
        else:
            assert set(theirs) == set(ours)
        assert_same_positions(ours, theirs, set(theirs))
        if not file.name.endswith(".bcif.gz"):  # gemmi does not read those
            all_places = of_gemmi(content, file.name)
            assert set(all_places) == set(ours)
            nearest = {
                key: min(places, key=lambda place, own=ours[key]: math.dist(place, own))
                if len(places) > 1
                else places[0]
                for key, places in all_places.items()
            }
            assert_same_positions(ours, nearest, set(ours))


def test_qm9_is_read_whole_and_twice_the_same(shared: Path, tmp_path: Path) -> None:
    """34,000 molecules of XYZ; those of the SDF file are the same molecules, and have bonds."""
    folder = shared / "data/molecules"
    all_of_it = packed(folder / "qm9_noF_34000.xyz.gz", tmp_path / "xyz.h5", "molecules")
    sample = packed(folder / "qm9_sample_2000.sdf.gz", tmp_path / "sdf.h5", "molecules")
    assert (len(all_of_it), int(all_of_it.num_atoms.sum())) == (34000, 615824)
    assert (len(sample), all_of_it.rejects, sample.rejects) == (2000, [], [])
    place = {key: i for i, key in enumerate(all_of_it.ids)}
    others = all_of_it.molecules([place[key] for key in sample.ids])
    for ours, other in zip(sample.molecules(range(2000)), others, strict=True):
        assert (ours.id, ours.elements.tolist()) == (other.id, other.elements.tolist())
        np.testing.assert_allclose(ours.positions, other.positions, atol=1e-4)
        assert ours.bonds is not None
        assert len(ours.bonds) >= len(ours.elements) - 1
        assert other.bonds is None
