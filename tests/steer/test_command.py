"""Observations on the command line, for a model that was trained."""

import json

import numpy as np
import pytest
from runs import small_recipe, write_arrays

from rawdiff import load
from rawdiff.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of fields [2, 4, 4]."""
    folder = tmp_path_factory.mktemp("observed")
    x = np.random.default_rng(0).normal(5.0, 2.0, size=(16, 2, 4, 4)).astype(np.float32)
    recipe = small_recipe(folder, write_arrays(folder, x=x), [2, 2])
    assert main(["train", str(recipe), "train.num_steps=2"]) == 0
    return folder / "run"


def _sampled(folder):
    return np.load(folder / "samples-000000.npz")["x"]


def test_a_file_with_gaps_is_filled(run, tmp_path) -> None:
    y = np.full((2, 4, 4), np.nan, np.float32)
    y[0, :2] = 7.25
    np.save(tmp_path / "y.npy", y)
    command = ["sample", str(run), "--observe", str(tmp_path / "y.npy"), "--out"]
    out = tmp_path / "out"
    assert main([*command, str(out), "sample.observe.method=replacement"]) == 0
    assert (_sampled(out)[:, 0, :2] == 7.25).all()
    assert _sampled(out).std() > 0.1
    written = json.loads((out / "settings.json").read_text())["sample"]["observe"]
    assert written["operator"] == {"name": "mask"}
    model = load(run, say=lambda text: None)
    again = model.sample(8, observe=y, method="replacement")
    assert np.allclose(again, _sampled(out), atol=1e-5)


@pytest.mark.parametrize("method", ["mmps", "dps"])
def test_a_network_is_derived_and_its_weights_are_left_alone(run, method) -> None:
    model = load(run, say=lambda text: None)
    before = [p.clone() for p in model.sampler.network.parameters()]
    y = np.full((2, 2, 2), 7.0)
    x = model.sample(3, observe=y, operator={"name": "coarsen", "factor": 2}, method=method)
    free = model.sample(3)
    assert x.isfinite().all()
    assert not x.requires_grad
    means = [v.reshape(3, 2, 2, 2, 2, 2).mean((3, 5)) for v in (x, free)]
    assert float((means[0] - 7).abs().mean()) < float((means[1] - 7).abs().mean())
    for p, kept in zip(model.sampler.network.parameters(), before, strict=True):
        assert p.grad is None
        assert (p == kept).all()


def test_operators_and_tables_come_from_the_command_line(run, tmp_path) -> None:
    np.save(tmp_path / "coarse.npy", np.full((8, 2, 2, 2), 6.0))
    command = ["sample", str(run), "--out", str(tmp_path / "out"), "--observe"]
    coarse = [str(tmp_path / "coarse.npy"), "--operator", "{name: coarsen, factor: 2}"]
    assert main([*command, *coarse]) == 0
    assert main([*command, coarse[0], "--operator", "coarsen", *_key("factor", 2)]) == 0
    (tmp_path / "stations.csv").write_text("axis0,axis1,channel0\n0.5,1.5,6\n3,3,5\n")
    assert main([*command, str(tmp_path / "stations.csv"), "sample.observe.noise_std=0.5"]) == 0


def _key(name, value):
    return [f"sample.observe.operator.{name}={value}"]


def test_what_does_not_fit_is_said_before_anything_is_written(run, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    command = ["sample", str(run), "--out", str(out)]
    assert main([*command, "--operator", "mask"]) == 2
    assert "--observe" in capsys.readouterr().err
    assert main([*command, "sample.observe.operator=mask"]) == 2
    assert "`sample.observe.file` is missing" in capsys.readouterr().err
    np.save(tmp_path / "y.npy", np.zeros((4, 4)))
    assert main([*command, "--observe", str(tmp_path / "y.npy")]) == 2
    assert "[4, 4], but the operator gives [2, 4, 4]" in capsys.readouterr().err
    assert main([*command, "--observe", str(tmp_path / "none.npy")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not out.exists()
