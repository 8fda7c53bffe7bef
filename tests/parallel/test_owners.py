"""Muon takes the same steps however its matrices are cut."""

import json
from pathlib import Path

import pytest
from processes import torchrun
from runs import checkpoint_tensors, metrics, random_recipe

from rawdiff.cli.main import main


def test_two_processes_with_unequal_shards_take_the_steps_of_one(tmp_path) -> None:
    done = torchrun(2, tmp_path, script=Path(__file__).with_name("muon_shards.py"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "differences.json").read_text())
    moments = {name.split(".")[-1] for name in found}
    assert moments >= {"momentum_buffer", "exp_avg", "exp_avg_sq"}
    assert sum(name.endswith("momentum_buffer") for name in found) == 5
    assert {name: value for name, value in found.items() if not value < 1e-4} == {}


def test_from_one_process_to_two_and_back_it_is_the_same_run(tmp_path) -> None:
    recipe = random_recipe(tmp_path, train={"optimizer": "muon", "num_steps": 12})
    alone, mixed = tmp_path / "alone", tmp_path / "mixed"
    args = ["train", str(recipe), f"run_dir={mixed}"]
    assert main(["train", str(recipe), f"run_dir={alone}"]) == 0
    assert main([*args, "train.num_steps=4"]) == 0
    done = torchrun(2, *args, "train.num_steps=8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert main(args) == 0
    losses = [[line["loss"] for line in metrics(run)] for run in (mixed, alone)]
    assert len(losses[0]) == 12
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    found, expected = (checkpoint_tensors(run, 12) for run in (mixed, alone))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        scale = float(tensor.double().abs().max()) or 1.0
        assert float((found[name] - tensor).abs().max()) < 1e-3 * scale, name
