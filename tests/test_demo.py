"""The first result of a newcomer: digits that can be read, in the row of their label."""

import json
import re
from pathlib import Path

import pytest
import torch
from digits import recognized
from PIL import Image
from runs import metrics

from rawdiff.cli.main import main


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo with fewer steps."""
    run = tmp_path_factory.mktemp("demo") / "run"
    command = ["train", "demo", f"run_dir={run}", "train.num_steps=240", "train.picture_every=240"]
    assert main(command) == 0
    return run


def test_guided_digits_are_read_as_their_label(demo) -> None:
    shares = recognized(str(demo), num_samples=300)
    assert shares["real held-out"] > 0.97
    assert shares["generated"] >= 0.97


def test_a_run_leaves_all_that_a_newcomer_looks_for(demo) -> None:
    assert main(["sample", str(demo)]) == 0
    assert main(["eval", str(demo), "evaluate.num_samples=100"]) == 0
    lines = metrics(demo)
    assert lines[-1]["step"] == 240
    assert lines[-1]["samples"] == 240 * 128
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert any(name.startswith("loss/t_") for name in lines[-1])
    assert list((demo / "tensorboard").iterdir())
    assert json.loads((demo / "environment.json").read_text())["torch"]
    picture = Image.open(demo / "samples" / "picture.png")
    assert picture.width > 600
    assert picture.height > 600  # ten rows of digits
    scores = json.loads((demo / "scores.json").read_text())["scores"]
    assert all(score.keys() == {"generated", "real held-out"} for score in scores.values())


def test_the_page_on_python_works_as_written(demo, tmp_path, monkeypatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(demo)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "runs/demo", "network.pt2", "--format", "torch_export"]) == 0
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    loaded, module, program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    t, label = torch.rand(3), torch.tensor([0, 3, 10])
    raw, patches = {"z_t": torch.randn(3, 1, 8, 8)}, {"z_t": torch.randn(3, 16, 4)}
    seen = raw | {"t": t}
    exec(loaded, seen)
    assert seen["x"].shape == (10, 1, 8, 8)
    assert seen["x_pred"].shape == (3, 1, 8, 8)
    seen = patches | {"t": t, "label": label}
    exec(module.replace('model.push_to_hub("OWNER/NAME")\n', ""), seen)
    assert seen["samples"].shape == (10, 1, 8, 8)
    assert main(["sample", "digits", "sample.num_samples=2"]) == 0
    expected = seen["output"]
    assert expected.requires_grad
    exec(program, seen)
    torch.testing.assert_close(seen["output"], expected, rtol=0, atol=1e-5)
