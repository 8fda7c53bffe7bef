"""Molecules are drawn into a pocket of one's own, and written where that protein lies."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lattice_cases import METHANE, stored
from pocket_files import AT, LIGAND, PROTEIN, prepared, residue, write_ligands, write_proteins
from rawdiff_molecules.decode import decode
from rawdiff_molecules.lattice import voxelize
from rawdiff_molecules.maps import read_map
from rawdiff_molecules.pocket_template import PocketTemplate

from rawdiff.cli.main import main
from rawdiff.conditions import draw_conditions, real_batch
from rawdiff.data.loading import Subset
from rawdiff.errors import UserError

CENTRE = tuple((AT + np.mean([xyz for _, *xyz in LIGAND], axis=0)).tolist())


def never():
    raise AssertionError("no real data are needed")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"m{i}" for i in range(6)]
    ligands = write_ligands(tmp_path / "ligands", names)
    proteins = write_proteins(tmp_path / "proteins", dict.fromkeys(names, PROTEIN))
    return prepared(ligands, proteins)


@pytest.fixture
def protein(data) -> Path:
    return Path(data.pockets) / "m0.pdb"


def test_a_pocket_of_one_s_own_is_told_as_that_of_training(data, protein):
    template = PocketTemplate(path=protein, centre=CENTRE)
    drawn = draw_conditions(data.info, 2, None, never, template=template)
    real = real_batch(Subset(data, range(6)), [0, 1])
    torch.testing.assert_close(drawn.context, real.context, atol=3e-3, rtol=0)  # its outer rim
    assert float(real.context.max()) > 0.5


def test_a_ligand_in_the_file_is_not_told(data, protein):
    plain = PocketTemplate(path=protein, centre=CENTRE).wanted(0, data.info, never)
    with protein.open("a") as file:
        file.write("\n".join(residue((0, 0, 0), 400, "LIG", "HETATM")) + "\n")
    with_ligand = PocketTemplate(path=protein, centre=CENTRE).wanted(0, data.info, never)
    np.testing.assert_array_equal(plain.context, with_ligand.context)


def test_samples_are_decoded_in_the_coordinates_of_the_protein(data, protein):
    lattice = data.lattice
    methane = stored([[(("C", *xyz) if s == "C" else ("N", *xyz)) for s, *xyz in METHANE]], lattice)
    placed = PocketTemplate(path=protein, centre=CENTRE).placed(data.info)
    density = voxelize(methane, lattice)
    there, here = decode(density, placed)[0], decode(density, data.info)[0]
    np.testing.assert_allclose(there.positions, here.positions + np.array(CENTRE), atol=1e-4)
    assert np.abs(here.positions).max() < 1


def test_what_does_not_fit_is_an_error(data, protein, tmp_path):
    def wanted(info=data.info, **changes):
        settings = {"path": protein, "centre": CENTRE} | changes
        return PocketTemplate(**settings).wanted(0, info, never)

    with pytest.raises(UserError, match=r"No atom of C, N, O, S .* the middle of the protein is"):
        wanted(centre=(500, 0, 0))
    meaning = {key: text for key, text in data.info.meaning.items() if key != "pocket"}
    with pytest.raises(UserError, match="trained without pockets"):
        wanted(replace(data.info, meaning=meaning))
    other = tmp_path / "water.pdb"
    other.write_text(residue((0, 0, 0), 1, "HOH", "HETATM")[0] + "\n")
    with pytest.raises(UserError, match=r"water\.pdb: no protein"):
        wanted(path=other)


def test_a_run_learns_with_pockets_and_draws_into_held_out_and_other_ones(data, tmp_path):
    recipe = {
        "run_dir": "run",
        "data": {"name": "molecules", "path": data.path, "pockets": data.pockets, "num_voxels": 16},
        "holdout": {"fraction": 0.4},
        "adapter": {"name": "mol3d", "patch_size": 4},
        "standardization": {"mode": "fixed", "mean": 0, "std": 0.25},
        "model": {"width": 32, "depth": 1, "heads": 2, "bottleneck": None, "in_context_len": 0},
        "train": {"num_steps": 2, "batch_size": 4, "device": "cpu", "tensorboard": False},
        "sample": {"num_steps": 1, "num_samples": 2},
        "evaluate": {"num_samples": 2, "num_reference": 2},
    }
    Path("pockets.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["check", "pockets.yaml"]) == 0
    assert main(["train", "pockets.yaml"]) == 0
    assert main(["sample", "run"]) == 0
    assert json.loads(Path("run/samples/report.json").read_text())["counts"]["samples"] == 2
    assert main(["eval", "run"]) == 0
    own = tmp_path / "own.pdb"
    own.write_text("\n".join([*PROTEIN[:12], *residue((3, 3, 3), 30)]))
    template = ["sample.template.name=pocket", f"sample.template.path={own}"]
    template.append(f"sample.template.centre={list(CENTRE)}")
    assert main(["sample", "run", *template, "--out", "maps", "sample.writer.name=maps"]) == 0
    first_voxel = np.array(CENTRE) - 7.5 * 0.4
    assert read_map(Path("maps/000001.mrc")).origin == pytest.approx(first_voxel, abs=1e-4)
    assert main(["sample", "run", *template, "--out", "molecules"]) == 0
    report = json.loads(Path("molecules/report.json").read_text())
    assert report["counts"]["samples"] == 2
