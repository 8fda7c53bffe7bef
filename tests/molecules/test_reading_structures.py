"""Structures that are odd in the ways in which real ones are."""

from pathlib import Path

import gemmi
import numpy as np
import pytest
from molecule_files import chains_of, pdb_atom, pdb_residue
from rawdiff_molecules.entry import Chain
from rawdiff_molecules.ragged import Entries


def only(entries: Entries) -> Chain:
    assert (len(entries), entries.rejects) == (1, [])
    return entries.chains([0])[0]


def text(*residues: list[str]) -> str:
    return "\n".join(line for residue in residues for line in residue) + "\nEND\n"


def test_insertion_codes_are_residues_of_their_own(tmp_path: Path) -> None:
    """Each takes a place of its own, and a missing residue leaves its gap."""
    residues = [pdb_residue(51), *(pdb_residue(52, code=code) for code in " AB"), pdb_residue(53)]
    chain = only(chains_of(text(*residues, pdb_residue(60)), tmp_path))
    assert chain.numbers.tolist() == [51, 52, 52, 52, 53, 60]
    assert chain.insertion_codes.tolist() == [" ", " ", "A", "B", " ", " "]
    assert chain.index.tolist() == [51, 52, 53, 54, 55, 62]
    without_52 = text(residues[0], *residues[2:3], residues[4])
    chain = only(chains_of(without_52, tmp_path, "gap.pdb"))
    assert chain.insertion_codes.tolist() == [" ", "A", " "]
    assert chain.index.tolist() == [51, 53, 54]


def test_numbers_that_fall_still_have_places_that_rise(tmp_path: Path) -> None:
    residues = [pdb_residue(n) for n in (100, 101, 5, 6, 9)]
    chain = only(chains_of(text(*residues), tmp_path))
    assert chain.numbers.tolist() == [100, 101, 5, 6, 9]
    assert chain.index.tolist() == [100, 101, 102, 103, 106]


def test_the_alternate_location_of_the_highest_occupancy_is_taken_whole(tmp_path: Path) -> None:
    """Also where one of its atoms alone has less; of equal ones the first label."""
    lines = pdb_residue(1)
    for label, occupancy, y in (("A", 0.4, 1.0), ("B", 0.6, 2.0)):
        for name, own in (("CB", occupancy), ("OG", occupancy)):
            lines.append(pdb_atom(name, at=(0, y, 0), altloc=label, occupancy=own, element=name[0]))
    for label, y in (("B", 2.0), ("A", 1.0)):
        lines.append(
            pdb_atom("CB", number="2", at=(0, y, 0), altloc=label, occupancy=0.5, element="C")
        )
    entries = chains_of(text(lines, pdb_residue(2)), tmp_path)
    chain = only(entries)
    names = chain.atom_names.tolist()
    first, second = names.index("CB"), names.index("CB", names.index("CB") + 1)
    assert chain.positions[first, 1] == chain.positions[first + 1, 1] == 2
    assert chain.positions[second, 1] == 1
    assert len(names) == 4 + 2 + 1 + 4
    assert entries.left_out == {"atoms of other alternate locations": 3}


def test_of_two_residues_at_one_place_one_is_taken_with_its_own_atoms(tmp_path: Path) -> None:
    """Microheterogeneity, as in crambin: never the name of one with an atom of the other."""
    pro = pdb_residue(22, "PRO", altloc="A", occupancy=0.6)
    pro.append(pdb_atom("CG", "PRO", number="22", altloc="A", occupancy=0.6, element="C"))
    ser = pdb_residue(22, "SER", altloc="B", occupancy=0.4)
    ser.append(pdb_atom("OG", "SER", number="22", altloc="B", occupancy=0.4, element="O"))
    bare = pdb_residue(22, "SER", occupancy=0.4)  # of a program that labels the other one only
    mixed = [line for pair in zip(pro, ser, strict=True) for line in pair]
    for number, lines in enumerate((pro + ser, ser + pro, mixed, bare + pro, pro + bare)):
        content = text(pdb_residue(21), lines, pdb_residue(23))
        chain = only(chains_of(content, tmp_path, f"{number}.pdb"))
        assert chain.names.tolist() == ["ALA", "PRO", "ALA"]
        own = slice(*chain.atom_offsets[1:3])
        assert sorted(chain.atom_names[own].tolist()) == ["C", "CA", "CG", "N", "O"]
    fewer = [line.replace("  0.60", "  0.30") for line in pro]
    chain = only(chains_of(text(fewer, bare), tmp_path, "bare.pdb"))
    assert (chain.names.tolist(), len(chain.atom_names)) == (["SER"], 4)


def test_files_without_elements_or_chain_ids_are_read(tmp_path: Path) -> None:
    """Elements are then those of the names: CA is carbon. Digits there are an old line's number."""
    names = ["N", "CA", "C", "O", "CB", "SG", "HB2"]
    lines = [pdb_atom(name, "CYS", chain=" ") for name in names]
    chain = only(chains_of(text(lines), tmp_path))
    assert chain.elements.tolist() == [7, 6, 6, 8, 6, 16, 1]
    assert chain.chain_ids.tolist() == [""]
    for label in ("      1POH 123", "      1POH1234", "      1POHA"):
        old = [f"{line}{label}" for line in lines]
        chain = only(chains_of(text(old), tmp_path, "old.pdb"))
        assert chain.elements.tolist() == [7, 6, 6, 8, 6, 16, 1]


def test_atoms_that_come_late_join_their_residue_and_those_twice_there_are_dropped(
    tmp_path: Path,
) -> None:
    late = [pdb_atom("H", number="1", element="H")]
    twice = pdb_residue(1)[1:2]
    entries = chains_of(text(pdb_residue(1) + twice, pdb_residue(2), late), tmp_path)
    chain = only(entries)
    assert np.diff(chain.atom_offsets).tolist() == [5, 4]
    assert chain.atom_names[:5].tolist() == ["N", "CA", "C", "O", "H"]
    assert entries.left_out == {"atoms that are there twice": 1}


def test_a_chain_that_is_numbered_anew_is_another_chain(tmp_path: Path) -> None:
    """Two chains with one id or none; a TER at a gap does not end a chain."""
    again = [pdb_residue(n, chain=" ") for n in (1, 2, 1, 2, 3)]
    entries = chains_of(text(*again), tmp_path)
    assert entries.num_residues.tolist() == [2, 3]
    assert entries.ids == ["one_", "one_.2"]
    chain = only(chains_of(text(pdb_residue(1), ["TER"], pdb_residue(5)), tmp_path, "ter.pdb"))
    assert chain.index.tolist() == [1, 5]


def test_what_is_no_protein_is_left_out_and_counted(tmp_path: Path) -> None:
    """A selenomethionine in the chain stays; a free amino acid, ligands and water do not."""
    hetero = {"record": "HETATM"}
    parts = [
        pdb_residue(1),
        pdb_residue(2, "MSE", **hetero),
        pdb_residue(3),
        pdb_residue(40, "GLY", **hetero),
        [pdb_atom("CA", "CA", number="50", element="CA", record="HETATM")],
        [pdb_atom("O", "HOH", number=str(n), element="O", **hetero) for n in (60, 61)],
        [pdb_atom("P", " DA", chain="B", number="1", element="P")],
    ]
    entries = chains_of(text(*parts), tmp_path)
    assert only(entries).names.tolist() == ["ALA", "MSE", "ALA"]
    assert entries.left_out == {
        "amino acids outside chains": 1,
        "nucleotides": 1,
        "other residues": 1,
        "water residues": 2,
    }


def test_residues_without_an_atom_of_the_backbone_stay(tmp_path: Path) -> None:
    chain = only(chains_of(text(pdb_residue(1), pdb_residue(2)[:1], pdb_residue(3)), tmp_path))
    assert chain.names.tolist() == ["ALA"] * 3
    there = np.isfinite(chain.backbone).all(axis=2)
    assert there.tolist() == [[True] * 4, [True, False, False, False], [True] * 4]


def test_numbers_beyond_the_columns_are_read_as_hybrid_36(tmp_path: Path) -> None:
    lines = [
        pdb_atom(name, number=number, serial="A0000", element=name[0])
        for number in ("9999", "A000")
        for name in ("N", "CA", "C", "O")
    ]
    assert only(chains_of(text(lines), tmp_path)).numbers.tolist() == [9999, 10000]


def test_the_first_model_or_all_of_them(tmp_path: Path) -> None:
    models = []
    for model in (1, 2, 7):
        models += [f"MODEL {model:8}", *pdb_residue(1), *pdb_residue(2, chain="B"), "ENDMDL"]
    first = chains_of(text(models), tmp_path)
    assert (first.ids, first.left_out) == (["one_A", "one_B"], {"models after the first": 2})
    every = chains_of(text(models), tmp_path, "all.pdb", models="all", chains="together")
    assert every.ids == ["all_1", "all_2", "all_7"]
    assert [chain.source for chain in every.chains([2, 0])] == ["all.pdb#3", "all.pdb#1"]
    assert every.chains([0])[0].chain_ids.tolist() == ["A", "B"]


MMCIF = """data_X
loop_
_atom_site.group_PDB
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.auth_seq_id
_atom_site.auth_asym_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
"""


def test_mmcif_has_the_authors_numbers_and_the_places_of_the_polymer(tmp_path: Path) -> None:
    """Its file has no column of insertion codes; a residue not of the polymer has no place."""
    rows = [
        f"ATOM C CA . ALA X {place} {number} H {place}.0 0.0 0.0"
        for place, number in ((3, 27), (4, 27), (9, 31))
    ]
    rows.append("HETATM C CA . GLY Y . 201 H 0.0 0.0 0.0")
    entries = chains_of(MMCIF + "\n".join(rows) + "\n", tmp_path, "x.cif")
    chain = only(entries)
    assert chain.index.tolist() == [3, 4, 9]
    assert chain.numbers.tolist() == [27, 27, 31]
    assert chain.chain_ids.tolist() == ["H"] * 3
    assert chain.insertion_codes.tolist() == [" "] * 3
    assert entries.left_out == {"amino acids outside chains": 1}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.pdb", "", "no atoms"),
        ("water.pdb", pdb_atom("O", "HOH", element="O"), "no protein"),
        ("letters.pdb", pdb_atom("CA").replace("   0.000", "   x.000", 1), "coordinates"),
        ("nan.pdb", pdb_atom("CA").replace("   0.000", "     nan", 1), "not a finite number"),
        ("element.pdb", pdb_atom("CA", element="Xx"), "unknown element"),
        ("text.cif", "this is no structure", "gemmi cannot read it"),
        ("empty.cif", "data_X\n", "no atoms"),
        ("noise.bcif", b"\x93\x01\x02", "biotite cannot read it"),
        ("columns.cif", "data_X\nloop_\n_atom_site.id\n1\n", "no column"),
    ],
)
def test_what_cannot_be_read_is_a_reject_with_its_reason(
    name: str, content: str | bytes, reason: str, tmp_path: Path
) -> None:
    entries = chains_of(content, tmp_path, name)
    assert len(entries) == 0
    (reject,) = entries.rejects
    assert reason in reject.reason
    assert reject.source == f"{name}#1"


def test_letters_beyond_ascii_and_the_line_ends_of_windows_are_no_hindrance(tmp_path: Path) -> None:
    lines = [b"REMARK   1 AUTH   M\xfcller", *(line.encode() for line in pdb_residue(1))]
    assert only(chains_of(b"\r\n".join(lines), tmp_path)).names.tolist() == ["ALA"]
    row = "ATOM C CA . ALA X 1 1 H 0.0 0.0 0.0\r\n"
    content = b"# M\xfcller\r\n" + (MMCIF.replace("\n", "\r\n") + row).encode()
    assert only(chains_of(content, tmp_path, "x.cif")).names.tolist() == ["ALA"]


def test_a_chain_whose_id_no_sample_can_carry_is_a_reject(tmp_path: Path) -> None:
    """Not an error in the midst of training, when that chain has its turn."""
    structure = gemmi.read_pdb_string(text(*(pdb_residue(n) for n in range(1, 5))))
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure[0][0].name = "ABC"
    assert len(chains_of(structure.make_mmcif_document().as_string(), tmp_path, "short.cif")) == 1
    structure[0][0].name = "ABCD"
    found = chains_of(structure.make_mmcif_document().as_string(), tmp_path, "long.cif")
    assert len(found) == 0
    assert "'ABCD'" in found.rejects[0].reason
