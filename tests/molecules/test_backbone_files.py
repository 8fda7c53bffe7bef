"""PDB and mmCIF files of backbones say the same to other programs, and keep what was given."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from biotite.structure.io import pdb, pdbx
from ideal_backbones import helix, mirrored
from PIL import Image
from rawdiff_molecules.backbone_writer import BackboneWriter
from rawdiff_molecules.geometry import as_sample
from rawdiff_molecules.residues import PLACE_NAMES, Residues
from rawdiff_molecules.structure_files import why_no_pdb, write_structure
from rawdiff_molecules.structure_pictures import BROKEN, SIDE, draw_ramachandran, draw_trace

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.errors import UserError

RESIDUES = Residues(
    residue=np.array([0, 1, 2, 5, 0, 1]),
    numbers=np.array([-1, 52, 52, 60, 1, 2]),
    insertion_codes=np.array([" ", " ", "A", " ", " ", " "]),
    chain_ids=np.array(["H", "H", "H", "H", "L", "L"]),
    names=np.array(["MET", "GLY", "TRP", "PRO", "UNK", "UNK"]),
)
CHANNELS = tuple(f"{atom}.{axis}" for atom in ("N", "CA", "C", "O") for axis in "xyz")


def backbone() -> Array:
    """Float32, far from the origin, with digits that three decimals do not hold."""
    points = helix(6).numpy().astype(np.float32) + np.float32(123.45678)
    points[2, 3] = np.nan  # an O
    points[4] = np.nan  # a whole residue
    return points


def read_by_gemmi(path: Path) -> list[tuple[str, int, str, str, str, list[float]]]:
    return [
        (c.name, r.seqid.num, r.seqid.icode, r.name, a.name, a.pos.tolist())
        for c in gemmi.read_structure(str(path))[0]
        for r in c
        for a in r
    ]


def read_by_biotite(path: Path) -> list[tuple[str, int, str, str, str, list[float]]]:
    if path.suffix == ".pdb":
        atoms = pdb.PDBFile.read(path).get_structure(model=1)
    else:
        atoms = pdbx.get_structure(pdbx.CIFFile.read(path), model=1)
    return [
        (a.chain_id, int(a.res_id), a.ins_code or " ", a.res_name, a.atom_name, a.coord.tolist())
        for a in atoms
    ]


@pytest.mark.parametrize("read", [read_by_gemmi, read_by_biotite])
@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_files_are_read_back_exactly_with_all_numbers(tmp_path, read, suffix) -> None:
    points = backbone()
    write_structure(tmp_path / "one", [points], RESIDUES)
    found = read((tmp_path / "one").with_suffix(suffix))
    named = zip(
        RESIDUES.chain_ids.tolist(),
        RESIDUES.numbers.tolist(),
        RESIDUES.insertion_codes.tolist(),
        RESIDUES.names.tolist(),
        ["N CA C O", "N CA C O", "N CA C", "N CA C O", "", "N CA C O"],
        strict=True,
    )
    there = [(*residue, atom) for *residue, atoms in named for atom in atoms.split()]
    assert [row[:5] for row in found] == there
    wanted = points[np.isfinite(points).all(axis=-1)]
    exact = np.array([row[5] for row in found], dtype=np.float32)
    assert np.allclose(exact, wanted, rtol=0, atol=0.0005001 if suffix == ".pdb" else 0)


def test_a_file_says_that_it_is_a_backbone_only(tmp_path) -> None:
    for file in write_structure(tmp_path / "one", [backbone()], RESIDUES)[0]:
        assert "BACKBONE ONLY" in file.read_text()


def test_a_trajectory_has_a_model_for_each_frame(tmp_path) -> None:
    frames = [backbone(), backbone() + 1]
    for file in write_structure(tmp_path / "way", frames, RESIDUES)[0]:
        models = gemmi.read_structure(str(file))
        far = models[1][0][0][0].pos.x - models[0][0][0][0].pos.x
        assert len(models) == 2
        assert far == pytest.approx(1, abs=0.0011)


def test_what_does_not_fit_into_a_pdb_file_is_in_mmcif_alone(tmp_path) -> None:
    long = Residues.plain(10_000)
    points = np.zeros((10_000, 4, 3), dtype=np.float32)
    assert "9,999 residues" in (why_no_pdb(points, long) or "")
    files, why = write_structure(tmp_path / "long", [points], long)
    assert [file.suffix for file in files] == [".cif"]
    assert why is not None
    assert len(pdbx.get_structure(pdbx.CIFFile.read(files[0]), model=1)) == 40_000
    named = replace(RESIDUES, chain_ids=np.full(6, "HA"))
    assert "one letter" in (why_no_pdb(backbone(), named) or "")
    assert "coordinate" in (why_no_pdb(backbone() - 2000, RESIDUES) or "")
    assert why_no_pdb(backbone(), RESIDUES) is None


def test_samples_are_written_with_their_places_and_a_report(tmp_path) -> None:
    x = as_sample(helix(6)[None]).float().numpy().repeat(2, axis=0)
    x = np.pad(x, ((0, 0), (0, 0), (0, 3)), constant_values=np.nan)
    place = np.stack([RESIDUES.place(9), Residues.plain(6).place(9)])
    info = DataInfo((12, 9), CHANNELS, place_names=PLACE_NAMES, sizes_vary=True)
    writer = BackboneWriter()
    for i in range(2):
        part = slice(i, i + 1)
        folder = tmp_path / f"part{i}"
        writer.write(x[part], folder, info=info, first_index=i, place=place[part])
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    writer.join([tmp_path / "part0", tmp_path / "part1"], tmp_path, info=info)
    first, second = (read_by_gemmi(tmp_path / f"{name}.pdb")[::4] for name in ("000000", "000001"))
    assert [row[1] for row in first] == [-1, 52, 52, 60, 1, 2]
    assert [row[3] for row in first] == ["MET", "GLY", "TRP", "PRO", "GLY", "GLY"]
    assert [(row[0], row[1], row[3]) for row in second] == [("A", i + 1, "GLY") for i in range(6)]
    report = json.loads((tmp_path / "report.json").read_text())
    assert [line["residues"] for line in report] == [6, 6]
    assert report[0]["chains"] == ["H", "L"]
    assert report[1]["right_handed"] == 1
    assert report[1]["files"] == ["000001.pdb", "000001.cif"]


def test_samples_that_are_no_backbones_are_an_error(tmp_path) -> None:
    with pytest.raises(UserError, match=r"\[3, 8\]"):
        BackboneWriter().write(
            np.zeros((1, 3, 8)), tmp_path, info=DataInfo((3, 8), ("a", "b", "c"))
        )


def test_pictures_tell_a_chain_from_its_mirror_image_and_show_broken_bonds() -> None:
    points = helix(30).numpy()
    right = _points(draw_ramachandran(points))
    wrong = _points(draw_ramachandran(mirrored(helix(30)).numpy()))
    assert right[0, 0] < SIDE / 2 < right[0, 1]  # phi and psi of a helix are negative
    assert np.allclose(right + wrong, SIDE - 1, atol=2)
    broken = points.copy()
    broken[15:] += 30
    assert _is_red(draw_trace(broken[:, 1]))
    assert not _is_red(draw_trace(points[:, 1]))


def test_a_picture_is_drawn_of_chains_of_any_length_also_of_none() -> None:
    x = np.full((3, 12, 9), np.nan, dtype=np.float32)
    x[0, :, :6] = as_sample(helix(6)[None])[0]
    x[1, :, 0] = 1.0
    image = BackboneWriter().draw(x, info=DataInfo((12, 9), CHANNELS))
    assert image.width > 3 * 2 * SIDE


def _points(image: Image.Image) -> Array:
    """Mean place [1, 2] (x, y) of the blue points."""
    pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero(pixels[..., 2] - pixels[..., 0] > 100)
    return np.array([[columns.mean(), rows.mean()]])


def _is_red(image: Image.Image) -> bool:
    return bool((np.abs(np.asarray(image).astype(int) - BROKEN).sum(axis=-1) < 60).any())
