"""Arrays of other HDF5 files, by the names that the recipe gives."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from molecule_files import packed
from rawdiff_molecules.layout import Layout
from rawdiff_molecules.ragged import Entries, Kind
from rawdiff_molecules.reading import Reading

from rawdiff.errors import UserError

ARRAYS: dict[str, Any] = {
    "backbone": np.arange(5 * 3 * 3, dtype=np.float64).reshape(5, 3, 3) / 10,
    "starts": np.array([0, 2, 5]),
    "letters": np.array([b"A", b"?", b"W", b"G", b"C"]),
    "residue_numbers": np.array([4, 9, 1, 2, 3]),
    "names": ["first", "second"],
    "symbols": np.array([b"C", b"O", b"N", b"Cl", b"H"]),
    "atoms/positions": np.arange(15, dtype=np.float32).reshape(5, 3),
}
CHAINS: dict[str, Any] = {
    "coordinates": "backbone",
    "offsets": "starts",
    "atoms": ("CA", None, "N"),
    "sequence": "letters",
    "numbers": "residue_numbers",
    "id": "names",
    "scale": 10.0,
}
ATOMS = {"coordinates": "atoms/positions", "offsets": "starts", "elements": "symbols"}


def read(folder: Path, kind: Kind, layout: dict[str, Any], **changed: Any) -> Entries:
    with h5py.File(folder / "theirs.h5", "w") as file:
        for name, values in {**ARRAYS, **changed}.items():
            file[name] = values
    reading = Reading(layout=Layout(**layout))
    return packed(folder / "theirs.h5", folder / "ours.h5", kind, reading)


def test_residues_are_found_by_the_names_of_their_arrays(tmp_path: Path) -> None:
    """In nanometres, in another order of atoms, without C and O; a gap in the numbers stays."""
    entries = read(tmp_path, "chains", CHAINS)
    first, second = entries.chains([0, 1])
    assert (first.id, second.id, second.source) == ("first", "second", "theirs.h5#2")
    assert (first.names.tolist(), second.names.tolist()) == (["ALA", "UNK"], ["TRP", "GLY", "CYS"])
    assert first.index.tolist() == first.numbers.tolist() == [4, 9]
    np.testing.assert_allclose(second.backbone[0, 0], [24, 25, 26])  # N is the third
    np.testing.assert_allclose(second.backbone[0, 1], [18, 19, 20])  # CA is the first
    assert np.isnan(second.backbone[:, 2:]).all()
    assert len(first.atom_names) == 0


def test_atoms_are_found_by_the_names_of_their_arrays(tmp_path: Path) -> None:
    """Elements by symbol or by number; without ids, they are named by the file and their number."""
    first, second = read(tmp_path, "molecules", ATOMS).molecules([0, 1])
    assert (first.id, second.id) == ("theirs:1", "theirs:2")
    assert second.elements.tolist() == [7, 17, 1]
    assert second.positions.tolist() == ARRAYS["atoms/positions"][2:].tolist()
    numbered = read(tmp_path, "molecules", ATOMS, symbols=np.array([6, 8, 7, 17, 1]))
    assert numbered.molecules([1])[0].elements.tolist() == [7, 17, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"coordinates": "bones"}, "no dataset `bones` .*data.layout.coordinates.*backbone"),
        ({"atoms": ("N", "CA", "C", "O")}, r"shape \(5, 3, 3\), not \[rows, 4, 3\]"),
        ({"offsets": "residue_numbers"}, "must rise from 0 to the number of rows, 5"),
        ({"sequence": "names"}, r"data.layout.sequence.* where 5 are needed"),
    ],
)
def test_a_layout_that_does_not_fit_says_what_does(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, "chains", CHAINS | changed)


def test_entries_of_other_files_are_rejected_with_a_reason(tmp_path: Path) -> None:
    backbone = ARRAYS["backbone"].copy()
    backbone[0] = np.inf
    entries = read(tmp_path, "chains", CHAINS, backbone=backbone, residue_numbers=[1, 2, 3, 3, 4])
    assert [reject.reason for reject in entries.rejects] == [
        "a coordinate is not a finite number",
        "its residue numbers do not rise",
    ]
    entries = read(tmp_path, "molecules", ATOMS, symbols=np.array([b"C", b"Q", b"N", b"O", b"H"]))
    assert [reject.reason for reject in entries.rejects] == ["unknown element 'Q'"]
    with pytest.raises(UserError, match=r"data\.layout\.elements"):
        read(tmp_path, "molecules", {"coordinates": "atoms/positions", "offsets": "starts"})


def test_backbones_of_somebody_else_are_read_whole(shared: Path, tmp_path: Path) -> None:
    """1,893 chains whose fourth atom is no atom: O is missing."""
    path = shared / "data/proteins/cgdms_backbones.h5"
    layout = Layout(
        coordinates="coordinates",
        offsets="offsets",
        atoms=("N", "CA", "C", None),
        sequence="sequence",
        id="id",
    )
    entries = packed(path, tmp_path / "ours.h5", "chains", Reading(layout=layout))
    assert (len(entries), int(entries.num_residues.sum())) == (1893, 115724)
    backbones = np.concatenate([chain.backbone for chain in entries.chains(range(1893))])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(backbones[:, :3], file["coordinates"][:, :3])
    assert np.isnan(backbones[:, 3]).all()
