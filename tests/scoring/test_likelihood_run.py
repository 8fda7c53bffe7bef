"""Likelihoods from the command line, of a model that was trained for a moment."""

import json
import os

import numpy as np
import pytest
import torch
from processes import ENVIRONMENT, side_by_side
from runs import rawdiff, small_recipe, write_arrays

from rawdiff import load
from rawdiff.assemble import open_data
from rawdiff.cli.main import main
from rawdiff.conditions import real_batch
from rawdiff.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of whole numbers [1, 4, 4] in 4 classes, a quarter held out."""
    folder = tmp_path_factory.mktemp("likely")
    x = np.random.default_rng(0).integers(0, 256, size=(24, 1, 4, 4), dtype=np.uint8)
    data = write_arrays(folder, x=x, labels=np.arange(24) % 4)
    recipe = small_recipe(
        folder, data, [2, 2], holdout={"fraction": 0.25}, sample={"cfg_scale": 3, "batch_size": 4}
    )
    assert main(["train", str(recipe), "train.num_steps=20"]) == 0
    return folder / "run"


def test_held_out_samples_get_nats_and_bits_that_python_gives_too(run, capsys) -> None:
    assert main(["likelihood", str(run), "sample.num_steps=10"]) == 0
    printed = capsys.readouterr().out
    assert "6 held-out samples" in printed
    assert "bits per dimension, of whole numbers" in printed
    found = json.loads((run / "likelihood.json").read_text())
    nats, bits = found["nats"], found["bits_per_dim"]
    assert len(nats) == len(bits) == 6
    assert bits == pytest.approx([-value / np.log(2) / 16 for value in nats])
    assert found["means"]["bits_per_dim"]["mean"] == pytest.approx(np.mean(bits))
    error = np.std(nats, ddof=1) / np.sqrt(6)
    assert found["means"]["nats"]["standard_error"] == pytest.approx(error)
    assert np.mean(bits) > 7.9  # no model knows 8 random bits better
    model = load(run, say=lambda text: None)
    held_out = open_held_out(model)
    again = model.log_likelihood(held_out.x, held_out.label, num_steps=10)
    assert torch.allclose(again, torch.tensor(nats, dtype=torch.float64), atol=1e-2)
    assert main(["likelihood", str(run), "sample.num_steps=10"]) == 0
    assert "6 of 6 log-likelihoods are there already" in capsys.readouterr().out


def test_processes_share_the_batches_go_on_after_a_kill_and_find_the_same_bits(run) -> None:
    command = ["likelihood", run, "sample.num_steps=4", "sample.batch_size=1"]
    done = rawdiff(*command, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    alone = (run / "likelihood.json").read_text()
    store = next(path.parent for path in run.glob("scoring/*/batch-00000005.safetensors"))
    kept = {path.name: path.read_bytes() for path in store.glob("batch-*")}
    assert len(kept) == 6
    for number in (0, 1, 3, 4, 5):  # as a kill leaves it
        (store / f"batch-{number:08d}.safetensors").unlink()
    (run / "likelihood.json").unlink()
    (_, told, _), (_, silent, _) = ended = side_by_side(2, *command)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "1 of 6 log-likelihoods are there already" in told
    assert silent == ""
    assert (run / "likelihood.json").read_text() == alone
    assert {path.name: path.read_bytes() for path in store.glob("batch-*")} == kept


def open_held_out(model):
    held_out = open_data(model.recipe).holdout
    return real_batch(held_out, range(len(held_out)))


def test_a_label_is_a_condition_and_guidance_does_not_act(run) -> None:
    model = load(run, say=lambda text: None)
    x = open_held_out(model).x
    with_label = model.log_likelihood(x, 1, num_steps=5)
    assert torch.equal(model.log_likelihood(x, 1, num_steps=5, cfg_scale=1.0), with_label)
    assert not torch.equal(model.log_likelihood(x, num_steps=5), with_label)
    for parameter in model.sampler.network.parameters():
        assert parameter.grad is None


def test_mistakes_are_named(run, capsys) -> None:
    assert main(["likelihood", str(run), "--num-probes", "0"]) == 2
    assert "--num-probes is 1 or more" in capsys.readouterr().err
    assert main(["likelihood", str(run), "--cut", "1"]) == 2
    assert "--cut is a 1 - t between 0 and 1" in capsys.readouterr().err
    model = load(run, say=lambda text: None)
    with pytest.raises(UserError, match=r"must have shape \[n, 1, 4, 4\]"):
        model.log_likelihood(np.zeros((2, 4, 4)))
    with pytest.raises(UserError, match="num_probes"):
        model.log_likelihood(np.zeros((2, 1, 4, 4)), num_probes=0)


def test_gaps_are_given_and_do_not_count(tmp_path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(5.0, 2.0, size=(24, 2, 4, 4)).astype(np.float32)
    x[random.random(x.shape) < 0.2] = np.nan
    recipe = small_recipe(tmp_path, write_arrays(tmp_path, x=x), [2, 2], holdout={"fraction": 0.25})
    assert main(["train", str(recipe), "train.num_steps=5"]) == 0
    assert main(["likelihood", str(tmp_path / "run"), "sample.num_steps=5"]) == 0
    found = json.loads((tmp_path / "run" / "likelihood.json").read_text())
    held_out = open_held_out(load(tmp_path / "run", say=lambda text: None)).x
    num_values = (~held_out.isnan()).flatten(1).sum(1)
    assert len(set(num_values.tolist())) > 1
    expected = -np.array(found["nats"]) / np.log(2) / num_values.numpy()
    assert found["bits_per_dim"] == pytest.approx(expected)
