"""All of `make demo-molecules` but its length."""

import json

from PIL import Image
from rawdiff_molecules.dictionary import main as write_dictionary
from rawdiff_molecules.molecule_evaluator import GOALS

from rawdiff.cli.main import main

SMALL = [
    "model.width=32",
    "model.depth=1",
    "train.num_steps=2",
    "train.batch_size=8",
    "sample.num_steps=1",
    "sample.num_samples=2",
    "evaluate.evaluators.molecules.num_samples=4",
]


def test_molecules_of_the_dictionary_are_learned_written_and_scored(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_dictionary(["data/small_molecules.sdf", "--heavy-atoms", "4"]) == 0
    assert main(["prepare", "molecules_demo"]) == 0
    assert main(["train", "molecules_demo", *SMALL]) == 0
    run = tmp_path / "runs" / "molecules_demo"
    assert main(["sample", str(run)]) == 0
    report = json.loads((run / "samples" / "report.json").read_text())
    assert report["counts"]["samples"] == 2
    assert Image.open(run / "samples" / "picture.png").width > 100
    assert main(["eval", str(run)]) == 0
    scores = json.loads((run / "scores.json").read_text())["scores"]
    real = {name: columns["real held-out"] for name, columns in scores.items()}
    expected = {f"molecules/{key}" if key else "molecules" for key in GOALS}
    assert real.keys() == expected - {"molecules/ring_size_tv"}  # four of them have no ring
    assert real["molecules"] == real["molecules/atom_stability"] == 1
    assert scores["molecules"]["generated"] == 0  # two steps teach nothing
