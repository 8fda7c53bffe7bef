"""Molecules that come with a dependency, for the demo."""

import numpy as np
from rawdiff_molecules.dictionary import main
from rawdiff_molecules.elements import element_number
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.sdf import read_sdf


def test_small_molecules_of_the_dictionary_are_written_whole(tmp_path, capsys) -> None:
    path = tmp_path / "small.sdf"
    assert main([str(path), "--heavy-atoms", "3"]) == 0
    found = list(read_sdf(path.read_text().splitlines(), "small.sdf", "small"))
    assert f"{len(found)} molecules" in capsys.readouterr().out
    assert all(isinstance(one, Molecule) for one in found)
    by_name = {one.id: one for one in found}
    assert len(by_name) == len(found) > 20
    ethanol = by_name["EOH"]
    assert np.bincount(ethanol.elements)[[1, 6, 8]].tolist() == [6, 2, 1]
    assert len(ethanol.bonds) == 8
    allowed = [element_number(symbol) for symbol in ("C", "H", "N", "O")]
    for one in found:
        assert np.isin(one.elements, allowed).all()
        assert (one.elements != 1).sum() <= 3
        assert one.charge == 0
        between = np.linalg.norm(one.positions[:, None] - one.positions, axis=-1)
        assert between[~np.eye(len(between), dtype=bool)].min() > 0.7


def test_a_file_that_cannot_be_written_is_an_error(tmp_path, capsys) -> None:
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file" / "small.sdf"), "--heavy-atoms", "1"]) == 2
    assert "cannot be written" in capsys.readouterr().err
