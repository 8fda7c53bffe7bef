"""Samples between two others, and samples that begin from given ones, for any data."""

import numpy as np
import pytest
import torch
from runs import small_recipe, write_arrays

from rawdiff import load
from rawdiff.assemble import open_data
from rawdiff.cli.main import main
from rawdiff.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of arrays [1, 4, 4] in 4 classes, a quarter held out."""
    folder = tmp_path_factory.mktemp("between")
    x = np.random.default_rng(0).normal(5.0, 2.0, size=(24, 1, 4, 4)).astype(np.float32)
    data = write_arrays(folder, x=x, labels=np.arange(24) % 4)
    recipe = small_recipe(folder, data, [2, 2], holdout={"fraction": 0.25})
    assert main(["train", str(recipe), "train.num_steps=10"]) == 0
    return folder / "run"


STILL = 0.99
"""As `t_eps`, it leaves samples almost where they begin: the network has hardly learned."""


@pytest.fixture(scope="module")
def model(run):
    return load(run, say=lambda text: None)


def drawn(folder):
    return torch.from_numpy(np.load(folder / "samples-000000.npz")["x"])


def test_samples_go_from_one_to_another(run, model, tmp_path) -> None:
    command = ["sample", str(run), "--between", "2", "5", "sample.labels=1", "--out"]
    assert main([*command, str(tmp_path / "a")]) == 0
    way = drawn(tmp_path / "a")
    free = model.sample(6, label=1)
    assert torch.allclose(way[0], free[2], atol=1e-4)
    assert torch.allclose(way[-1], free[5], atol=1e-4)
    assert not torch.allclose(way[3], way[0], atol=0.1)
    assert main([*command, str(tmp_path / "b"), "sample.batch_size=3"]) == 0
    parts = [np.load(path)["x"] for path in sorted((tmp_path / "b").glob("samples-*.npz"))]
    assert np.allclose(np.concatenate(parts), way, atol=1e-4)
    assert torch.allclose(model.sample(8, label=1, between=(2, 5)), way, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "Between two samples all have one label"),
        (["sample.labels=[0,1]"], "Between two samples all have one label"),
        (["sample.labels=1", "sample.solver=ancestral"], "adds noise of its own"),
    ],
)
def test_what_else_would_differ_between_samples_is_refused(run, keys, message, capsys) -> None:
    assert main(["sample", str(run), "--between", "0", "1", *keys]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_held_out_samples_are_noised_in_part_and_drawn_anew(run, model, tmp_path) -> None:
    command = ["sample", str(run), "sample.template.name=given", "--out"]
    held_out = open_data(model.recipe).holdout
    real = torch.from_numpy(np.stack([s.x for s in held_out.get_batch(range(len(held_out)))]))
    real = torch.cat((real, real))[:8]  # in turn
    distances = []
    for start in ("0.98", "0.5"):
        out = tmp_path / start
        assert main([*command, str(out), f"sample.start={start}", f"sample.t_eps={STILL}"]) == 0
        distances.append(float((drawn(out) - real).square().mean().sqrt()))
    assert distances[0] < 0.1 < 0.5 < distances[1]
    assert (tmp_path / "0.5" / "picture.png").is_file()


def test_given_samples_come_from_a_file_or_another_dataset(run, model, tmp_path) -> None:
    x = np.random.default_rng(1).normal(5.0, 2.0, size=(3, 1, 4, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    template = {"name": "given", "file": tmp_path / "x.npy", "label": 2}
    of_file = model.sample(5, template=template, start=0.999, t_eps=STILL)
    assert torch.allclose(of_file, torch.from_numpy(x)[[0, 1, 2, 0, 1]], atol=0.2)
    np.savez(tmp_path / "x.npz", x=x, labels=[2, 2, 2])
    data = {"name": "array", "path": tmp_path / "x.npz", "key": "x", "labels": "labels"}
    of_data = model.sample(5, template={"name": "given", "data": data}, start=0.999, t_eps=STILL)
    assert torch.equal(of_data, of_file)


def test_what_cannot_be_begun_from_is_refused(model, tmp_path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.zeros((3, 2, 4, 4), np.float32))
    with pytest.raises(UserError, match=r"has the shape \[2, 4, 4\]"):
        model.sample(2, template={"name": "given", "file": file}, start=0.5)
    with pytest.raises(UserError, match="either `file` or `data`"):
        model.sample(2, template={"name": "given", "file": file, "data": {"name": "digits"}})
    np.save(file, np.full((3, 1, 4, 4), np.nan, np.float32))
    with pytest.raises(UserError, match="are unknown in the template"):
        model.sample(2, template={"name": "given", "file": file}, start=0.5)
    with pytest.raises(UserError, match="does not exist: there are 4 classes"):
        model.sample(2, template={"name": "given", "label": 9}, start=0.5)
