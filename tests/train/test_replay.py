"""A step run again shows what the run saw, and finds what miscalculates."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from poison import poisoned, spoil
from processes import torchrun
from runs import metrics, small_recipe, write_arrays

from rawdiff.cli.main import main
from rawdiff.errors import UserError
from rawdiff.recipe_file import load_recipe
from rawdiff.train.objective import Objective
from rawdiff.train.replay import replay

BATCH = 8


def places_of(*steps: int) -> list[int]:
    return [place for step in steps for place in range(BATCH * (step - 1), BATCH * step)]


def trained(folder: Path, *keys: str, **changes) -> Path:
    x = np.random.default_rng(0).normal(size=(30, 1, 8)).astype(np.float32)
    settings = {"checkpoint": {"every_steps": 4, "keep_last": 9}, "train": {"num_steps": 14}}
    recipe = small_recipe(
        folder, write_arrays(folder, x=x), [2], holdout={"fraction": 0.2}, **settings | changes
    )
    assert main(["train", str(recipe), *keys]) == 0
    return load_recipe(recipe, list(keys)).run_dir


def bytes_of(run: Path) -> dict[str, bytes]:
    """All that the run left, but for what a replay adds."""
    files = (path for path in run.rglob("*") if path.is_file() and "replays" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


def test_a_step_again_equals_log_and_checkpoint_and_changes_neither(tmp_path, capsys) -> None:
    run = trained(tmp_path)
    before = bytes_of(run)
    assert main(["replay", str(run), "--step", "8"]) == 0
    shown = capsys.readouterr().out
    assert "from its checkpoint of step 4; 3 steps lie between" in shown
    assert "What came out equals what the run left" in shown
    assert bytes_of(run) == before
    found = json.loads((run / "replays" / "step-00000008.json").read_text())
    assert {one["step"] for one in found["compared"]} == {5, 6, 7, 8}
    assert all(one["logged"] == one["now"] for one in found["compared"])
    assert (found["unrepeatable"], found["unlike_checkpoint"]) == ([], [])
    seen = found["diagnosis"]
    assert sorted(sample["place"] for sample in seen["samples"]) == places_of(8)
    total = math.sqrt(sum(norm**2 for norm in found["block_norms"].values()))
    logged = metrics(run)[7]["grad_norm"]
    assert logged == pytest.approx(total) == pytest.approx(seen["grad_norm"])


def test_steps_before_the_first_checkpoint_are_run_from_the_beginning(tmp_path) -> None:
    run = trained(tmp_path)
    found = replay(run, 3)
    assert found.from_step == 0
    assert [one.difference for one in found.compared] == [0.0] * len(found.compared)
    assert {one.step for one in found.compared} == {1, 2, 3}


def test_the_first_step_that_a_machine_miscalculated_is_named(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Objective, "errors", poisoned(spoil(places_of(6), 1.01), []))
        run = trained(tmp_path)
    found = replay(run, 8)
    assert found.first_difference is not None
    assert (found.first_difference.step, found.first_difference.name) == (6, "loss")
    assert found.unlike_checkpoint
    assert "The log has another `loss` at step 6" in found.verdict()


def test_a_machine_that_does_not_repeat_itself_is_suspected(tmp_path, monkeypatch) -> None:
    run = trained(tmp_path)
    monkeypatch.setattr(Objective, "errors", poisoned(lambda i: 1 + 1e-3 * torch.rand(len(i)), []))
    found = replay(run, 6)
    assert "last_layer.linear.weight" in found.unrepeatable
    assert "Computed twice in a row" in found.verdict()


def test_a_skipped_step_is_explained_and_samples_left_out_stay_so(tmp_path, monkeypatch) -> None:
    spoiled = poisoned(spoil(places_of(5, 6, 7, 8, 12)), [])
    monkeypatch.setattr(Objective, "errors", spoiled)
    run = trained(tmp_path, guard={"max_skipped": 4})  # back from 8 to 4
    found = replay(run, 8)
    assert found.from_step == 4
    assert not found.taken
    assert sorted(sample["place"] for sample in found.diagnosis.samples) == places_of(12)
    assert "The loss of all its samples is not finite" in found.verdict()
    assert [one.difference for one in found.compared] == [0.0] * len(found.compared)


def test_two_processes_find_what_one_did(tmp_path) -> None:
    run = trained(tmp_path)
    done = torchrun(2, "replay", run, "--step", 7)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("What came out agrees within rounding") == 1
    found = json.loads((run / "replays" / "step-00000007.json").read_text())
    assert {sample["place"] for sample in found["diagnosis"]["samples"]} == set(places_of(7))


@pytest.mark.parametrize(
    ("step", "key", "words"),
    [
        (15, "seed=0", "has come to step 14, as far as it tells; 15 is none"),
        (0, "seed=0", "0 is none"),
        (5, "seed=9", "seed: 0 there, 9 now"),
        (5, "sede=9", "sede"),
        (5, "guard.spike=0.5", "guard.spike: 8.0 there, 0.5 now"),
        (5, "train.num_steps=3", "train.num_steps: 14 there, 3 now"),
    ],
)
def test_what_cannot_be_replayed_is_said(tmp_path, capsys, step, key, words) -> None:
    run = trained(tmp_path, train={"num_steps": 14})
    assert main(["replay", str(run), "--step", str(step), key]) == 2
    assert words in capsys.readouterr().err
    assert not (run / "replays").exists()


def test_a_damaged_checkpoint_is_passed_over_with_a_word(tmp_path, capsys) -> None:
    run = trained(tmp_path)
    (run / "checkpoints" / "step-00000008" / "recipe.yaml").write_text("")
    assert main(["replay", str(run), "--step", "10"]) == 0
    shown = capsys.readouterr().out
    assert "is damaged" in shown
    assert "from its checkpoint of step 4" in shown


def test_steps_that_were_never_run_are_not_judged(tmp_path) -> None:
    run = trained(tmp_path, "train.log_every=4", train={"num_steps": 14})
    shutil.rmtree(run / "checkpoints" / "step-00000014")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]))  # as after a kill past step 8
    assert "Neither the log nor a checkpoint tells of step 11" in replay(run, 11).verdict()
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    with pytest.raises(UserError, match="has come to step 11"):
        replay(run, 12)


def test_what_cannot_be_written_is_shown_all_the_same(tmp_path, capsys) -> None:
    run = trained(tmp_path)
    (run / "replays").write_text("a file")
    assert main(["replay", str(run), "--step", "5"]) == 0
    shown = capsys.readouterr().out
    assert "Not written: " in shown
    assert "What came out equals what the run left" in shown
