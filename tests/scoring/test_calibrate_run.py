"""Calibration from the command line, of a model that was trained for a moment."""

import json
import os

import numpy as np
import pytest
from processes import ENVIRONMENT, side_by_side
from runs import rawdiff, small_recipe, write_arrays

from rawdiff.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of whole numbers [1, 4, 4] in 4 classes, with gaps in none; 20 held out."""
    folder = tmp_path_factory.mktemp("calibrated")
    x = np.random.default_rng(0).integers(0, 9, size=(40, 1, 4, 4), dtype=np.uint8)
    data = write_arrays(folder, x=x, labels=np.arange(40) % 4)
    recipe = small_recipe(folder, data, [2, 2], holdout={"fraction": 0.5})
    assert main(["train", str(recipe), "train.num_steps=20"]) == 0
    return folder / "run"


FEW = ["--members", "5", "--truths", "12"]


@pytest.mark.parametrize("operator", ["mask", "{name: coarsen, factor: 2}"])
def test_held_out_samples_are_hidden_in_part_and_compared_with_draws(run, operator, capsys) -> None:
    keys = [] if operator == "mask" else [f"sample.observe.operator={operator}"]
    command = ["eval", str(run), "--calibration", *FEW, *keys]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "12 held-out samples, 5 draws of each" in printed
    assert "share in intervals of 67%" in printed
    found = json.loads((run / "calibration.json").read_text())
    assert found["verdict"].split()[0] in " ".join(printed.split())
    assert found["num_truths"] == 12
    assert set(found["coverage"]) == {"50%", "90%"}
    assert sum(found["ranks"]["place"]["histogram"]) == 12
    assert found["origin"]["step"] == 20
    assert main(command) == 0
    assert "12 of 12 held-out samples are there already" in capsys.readouterr().out


def test_processes_share_the_truths_and_find_the_same_bits(run) -> None:
    command = ["eval", run, "--calibration", *FEW, "sample.batch_size=5", "sample.num_steps=4"]
    done = rawdiff(*command, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    alone = (run / "calibration.json").read_text()
    for path in run.glob("scoring/*/batch-*"):
        path.unlink()
    (run / "calibration.json").unlink()
    ended = side_by_side(2, *command)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "12 held-out samples, 5 draws of each" in ended[0][1]
    assert ended[1][1] == ""
    assert (run / "calibration.json").read_text() == alone


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--calibration", "--members", "2"], "--members is 3 or more"),
        (["--calibration", "--truths", "3"], "--truths is 10 or more"),
        (["--calibration", "--metric", "frechet"], "has no --metric"),
        (["--members", "5"], "are of --calibration"),
        (["--calibration", "sample.observe.file=y.npy"], "made of held-out samples"),
    ],
)
def test_mistakes_are_named(run, flags, message, capsys) -> None:
    assert main(["eval", str(run), *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
