"""Chains of a wanted length, and scaffolds around residues that stay where they were."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from rawdiff_molecules.backbones import Backbones
from rawdiff_molecules.chain_template import ChainTemplate
from rawdiff_molecules.contig import Kept, New, parse_contig
from rawdiff_molecules.motif_template import MotifTemplate
from rawdiff_molecules.residues import Residues

from rawdiff.conditions import draw_conditions
from rawdiff.errors import UserError

INFO = Backbones(path="unused.h5", max_length=30).info
ATOM = "ATOM  {:5d}  {:<3s} {:3s} {}{:4d}{}   {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           {}\n"


def write_chain(path: Path, labels=None, chain="A") -> Path:
    """A chain whose CA of residue i lies at (10 i, 0, 0)."""
    labels = labels or [(n, " ") for n in range(10, 22)]
    lines, serial = [], 0
    for row, (number, code) in enumerate(labels):
        for k, atom in enumerate(("N", "CA", "C", "O")):
            serial += 1
            xyz = (10.0 * row + (k - 1), 0.5 * k, 0.0)
            lines.append(ATOM.format(serial, atom, "ALA", chain, number, code, *xyz, atom[0]))
    path.write_text("".join(lines) + "TER\nEND\n")
    return path


def never():
    raise AssertionError("no real data are needed")


def residues(wanted) -> Residues:
    return Residues.read(wanted.place, INFO.place_names)


def test_a_contig_says_what_is_new_and_what_is_kept() -> None:
    assert parse_contig("10-20/A38-57/12") == [
        New(10, 20),
        Kept("A", (38, " "), (57, " ")),
        New(12, 12),
    ]
    assert parse_contig("B5A-7C") == [Kept("B", (5, "A"), (7, "C"))]
    assert parse_contig("A-3-4") == [Kept("A", (-3, " "), (4, " "))]
    for wrong in ("", "A", "20-10", "10/x", "A1--"):
        with pytest.raises(UserError, match="contig"):
            parse_contig(wrong)


def test_lengths_take_turns_and_residues_are_numbered_from_one() -> None:
    template = ChainTemplate(lengths=(5, 30))
    five, thirty = (template.wanted(i, INFO, never) for i in (2, 1))
    assert five.there.sum() == 5 * 12
    assert five.scalars.tolist() == [5]
    assert residues(five).numbers.tolist() == [1, 2, 3, 4, 5]
    assert thirty.there.all()
    with pytest.raises(UserError, match=r"31 residues are wanted, .* at most 30"):
        ChainTemplate(lengths=(31,)).wanted(0, INFO, never)
    with pytest.raises(ValueError, match="at least 1 item"):
        ChainTemplate(lengths=())


def test_kept_residues_keep_their_place_and_the_others_are_free(tmp_path) -> None:
    path = write_chain(tmp_path / "m.pdb")
    template = MotifTemplate(path=path, keep="A12-13,A20-20")
    wanted = template.wanted(7, INFO, never)
    kept = np.flatnonzero(wanted.keep.all(0))
    assert kept.tolist() == [2, 3, 10]
    assert wanted.x[3, kept].tolist() == [20.0, 30.0, 100.0]
    named = [row for row, name in enumerate(residues(wanted).names) if name != "UNK"]
    assert named == kept.tolist()  # the others are drawn, and have no sequence
    assert residues(wanted).numbers.tolist() == list(range(10, 22))
    everything_free = MotifTemplate(path=path, keep="").wanted(0, INFO, never)
    assert not everything_free.keep.any()
    assert not np.isnan(everything_free.x[:, :12]).any()


def test_a_scaffold_has_free_numbers_and_lengths_of_its_own(tmp_path) -> None:
    path = write_chain(tmp_path / "m.pdb")
    template = MotifTemplate(path=path, contig="2-4/A14-16/3/A20-21/1")
    lengths = set()
    for index in range(20):
        wanted = template.wanted(index, INFO, never)
        found = residues(wanted)
        kept = wanted.keep[:, : len(found)].all(0)
        lengths.add(len(found))
        assert len(set(found.numbers.tolist())) == len(found)
        assert found.numbers[kept].tolist() == [14, 15, 16, 20, 21]
        assert found.names[kept].tolist() == ["ALA"] * 5
        assert set(found.names[~kept].tolist()) == {"UNK"}
        assert found.residue.tolist() == list(range(len(found)))
        assert np.array_equal(wanted.x, template.wanted(index, INFO, never).x, equal_nan=True)
    assert lengths == {11, 12, 13}


def test_new_residues_take_other_numbers_where_there_is_no_room(tmp_path) -> None:
    path = write_chain(tmp_path / "m.pdb")
    wanted = MotifTemplate(path=path, contig="A10-11/4/A12-13").wanted(0, INFO, never)
    assert residues(wanted).numbers.tolist() == [10, 11, 14, 15, 16, 17, 12, 13]


def test_gaps_and_insertion_codes_of_a_motif_stay(tmp_path) -> None:
    labels = [(5, " "), (6, " "), (6, "A"), (9, " ")]
    path = write_chain(tmp_path / "m.pdb", labels)
    wanted = MotifTemplate(path=path, contig="1/A6-9/1").wanted(0, INFO, never)
    found = residues(wanted)
    assert found.insertion_codes.tolist() == [" ", " ", "A", " ", " "]
    assert found.numbers.tolist() == [5, 6, 6, 9, 10]
    steps = np.diff(found.residue)
    assert steps[0] == steps[1] == steps[3] == 1
    assert steps[2] == 3  # residues 7 and 8 are missing


def test_what_is_not_in_the_file_is_an_error(tmp_path) -> None:
    path = write_chain(tmp_path / "m.pdb")
    with gzip.open(tmp_path / "m.pdb.gz", "wb") as file:
        file.write(path.read_bytes())
    assert MotifTemplate(path=tmp_path / "m.pdb.gz", keep="A10").wanted(0, INFO, never)
    for wrong, message in (
        ("A10-99", "no residue A99"),
        ("B10-11", r"has the chains A; .* found B"),
        ("A13-12", "stands before"),
        ("12", "names residues"),
    ):
        with pytest.raises(UserError, match=message):
            MotifTemplate(path=path, keep=wrong).wanted(0, INFO, never)
    with pytest.raises(UserError, match="does not exist"):
        MotifTemplate(path=tmp_path / "none.pdb", keep="A1").wanted(0, INFO, never)
    with pytest.raises(ValueError, match="one of `contig` and `keep`"):
        MotifTemplate(path=path)


def test_templates_become_conditions_of_any_part_of_a_set() -> None:
    template = ChainTemplate(lengths=(5, 30))
    conditions = draw_conditions(INFO, 6, None, never, slice(3, 5), template)
    assert conditions.scalars.flatten().tolist() == [30, 5]
    assert conditions.there.shape == (2, 12, 30)
    assert conditions.place.shape == (2, len(INFO.place_names), 30)
    assert conditions.there.dtype == torch.bool


def test_what_is_said_of_residues_travels_in_a_sample() -> None:
    said = Residues(
        residue=np.array([3, 4, 9]),
        numbers=np.array([-2, 120, 16_000_000]),
        insertion_codes=np.array([" ", "A", "z"]),
        chain_ids=np.array(["A", "A", "xY9"]),
        names=np.array(["TRP", "MSE", "GLY"]),
    )
    found = Residues.read(said.place(5), INFO.place_names)
    assert found.residue.tolist() == [0, 1, 6]
    assert found.numbers.tolist() == said.numbers.tolist()
    assert found.insertion_codes.tolist() == [" ", "A", "z"]
    assert found.chain_ids.tolist() == ["A", "A", "xY9"]
    assert found.names.tolist() == ["TRP", "UNK", "GLY"]
    with pytest.raises(UserError, match="longer than 3 letters"):
        Residues(*(np.array([1]), np.array([1]), np.array([" "])), np.array(["long"]),
                 np.array(["ALA"])).place(5)  # fmt: skip
