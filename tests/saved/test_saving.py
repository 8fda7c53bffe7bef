"""Checkpoints that are written beside the training: whatever fails, a whole one is there."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from disk import Crash, crash_at, full_after
from processes import torchrun
from runs import checkpoint_tensors, rawdiff, small_recipe, write_arrays
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager

from rawdiff.cli.main import main
from rawdiff.errors import UserError
from rawdiff.parallel.processes import ALONE
from rawdiff.recipe import CheckpointSettings
from rawdiff.saved.checkpoint import Checkpoint, checkpoints, find_checkpoint, load
from rawdiff.saved.folder import DESCRIPTION, RunFolder
from rawdiff.saved.saving import Saver

MODES = ("thread", "sync")
SHARD = "__0_0.distcp"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Of a run that is described, and has no checkpoint yet."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in DESCRIPTION:
        (run.path / name).write_text(f"content of {name}")
    return run


def state_of(step: int) -> dict[str, dict[str, Tensor]]:
    return {"model": {"w": torch.full((50, 7), float(step)), "b": torch.arange(9.0) + step}}


def saver_of(folder: RunFolder, said: list[str] | None = None, **settings: object) -> Saver:
    said = [] if said is None else said
    chosen = CheckpointSettings(**{"keep_last": 1, **settings})
    return Saver(folder, chosen, ALONE, torch.device("cpu"), said.append)


def save(folder: RunFolder, *steps: int, **settings: object) -> None:
    with saver_of(folder, **settings) as saver:
        for step in steps:
            saver.begin(state_of(step), step)
            saver.wait_until_staged()


def newest_step(folder: RunFolder) -> int:
    """Of the newest whole checkpoint, which holds what was saved at that step."""
    found = find_checkpoint(folder, None, lambda _: None)
    assert found is not None
    state = load(found, {"model": {"w": torch.empty(50, 7), "b": torch.empty(9)}})
    expected = state_of(found.step)
    assert all(torch.equal(state["model"][name], expected["model"][name]) for name in "wb")
    return found.step


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def before_step_3(folder: RunFolder, trouble: str) -> None:
    """Checkpoints of steps 1 and 2, with traces of what went wrong earlier."""
    save(folder, 1, 2, keep_last=2)
    second = folder.checkpoints / "step-00000002"
    if trouble == "step 3 is there, damaged":
        shutil.copytree(second, folder.checkpoints / "step-00000003")
        flip_a_bit(folder.checkpoints / "step-00000003" / SHARD)
    elif trouble == "step 3 alone is there":
        shutil.rmtree(folder.checkpoints)
        save(folder, 3)
    elif trouble == "killed twice":
        shutil.rmtree(folder.checkpoints / "step-00000001")
        second.rename(second.with_name(".replaced-step-00000002"))
        for name in (".partial-step-00000003-abc", ".deleted-step-00000001-abc"):
            (folder.checkpoints / name).mkdir()
            (folder.checkpoints / name / SHARD).write_bytes(b"half of it")


@pytest.mark.parametrize(
    ("trouble", "mode"),
    [
        ("none", "thread"),
        ("none", "sync"),
        ("step 3 is there, damaged", "thread"),
        ("step 3 alone is there", "sync"),
        ("killed twice", "sync"),
    ],
)
def test_a_crash_at_any_operation_of_a_save_leaves_a_whole_checkpoint(
    folder, tmp_path, mode, trouble
) -> None:
    before_step_3(folder, trouble)
    crashed_at, operation, published = [], 0, False
    while not published:
        run = RunFolder(tmp_path / f"crash-{operation}")
        shutil.copytree(folder.path, run.path)
        try:
            with crash_at(operation, run.path):
                save(run, 3, mode=mode)
            published = True
        except Crash as crash:
            crashed_at.append(str(crash))
        assert newest_step(run) in ((3,) if published else (2, 3))
        save(run, 4)
        assert newest_step(run) == 4
        assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000004"]
        shutil.rmtree(run.path)
        operation += 1
    for phase in (SHARD, ".metadata", "recipe.yaml", "manifest.json", "os.rename", "os.remove"):
        assert any(phase in operation for operation in crashed_at), phase


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_stops_with_a_clear_message_and_keeps_what_is_there(
    folder, tmp_path, mode
) -> None:
    save(folder, 1, 2, keep_last=2)
    writes, published = 0, False
    while not published:
        run = RunFolder(tmp_path / f"full-{writes}")
        shutil.copytree(folder.path, run.path)
        message = None
        try:
            with full_after(writes, run.path):
                save(run, 3, mode=mode, keep_last=2)
        except UserError as error:
            message = str(error)
        published = message is None
        if message is not None:
            assert "checkpoint of step 3 could not be written" in message
            assert "No space left on device" in message
            assert "continues from step 2" in message
            names = sorted(path.name for path in run.checkpoints.iterdir())
            assert names == ["step-00000001", "step-00000002"]
            assert newest_step(run) == 2
        writes += 1
    assert writes > 7  # the folder, four files of the run, shard, metadata, manifest
    assert newest_step(run) == 3


def test_a_save_that_fails_beside_the_steps_is_noticed_before_the_next(folder) -> None:
    with saver_of(folder) as saver:
        with full_after(3, folder.path):
            saver.begin(state_of(1), 1)
            saver.wait_until_staged()
            assert saver._saving is not None
            saver._saving.exception(timeout=60)
        assert saver.failed
        with pytest.raises(UserError, match="step 1 could not be written"):
            saver.finish()
        assert not saver.failed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: os.truncate(shard, 100), f"{SHARD} has 100 bytes instead of"),
        (flip_a_bit, f"{SHARD} has another checksum"),
        (os.remove, f"{SHARD} is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(folder, damage, message) -> None:
    save(folder, 1, 2, keep_last=2)
    damage(folder.checkpoints / "step-00000002" / SHARD)
    said: list[str] = []
    found = find_checkpoint(folder, None, said.append)
    assert found is not None
    assert found.step == 1
    assert len(said) == 1
    assert "step-00000002" in said[0]
    assert message in said[0]


@pytest.mark.parametrize("mode", MODES)
def test_changes_after_the_save_is_staged_are_not_saved(folder, monkeypatch, mode) -> None:
    changed = threading.Event()
    write = Saver._write

    def late_write(self, state, partial) -> None:
        assert mode == "sync" or changed.wait(60)
        write(self, state, partial)

    monkeypatch.setattr(Saver, "_write", late_write)
    with saver_of(folder, mode=mode) as saver:
        state = state_of(1)
        for step in (1, 2):  # the second copy goes where the first one was
            saver.finish()
            changed.clear()
            saver.begin(state, step)
            saver.wait_until_staged()
            for tensor in state["model"].values():
                tensor += 1
            changed.set()
    assert newest_step(folder) == 2


def test_finish_at_any_time_leaves_nothing_under_way(folder) -> None:
    with saver_of(folder, keep_last=2) as saver:
        saver.finish()
        state = state_of(1)
        saver.begin(state, 1)
        saver.finish()  # staged and published
        state["model"]["w"].zero_()
        assert newest_step(folder) == 1
        saver.begin(state_of(2), 2)
        saver.finish()
        saver.finish()
        shutil.rmtree(folder.checkpoints / "step-00000002")  # as a return to step 1 does
        saver.wait_until_staged()
        saver.begin(state_of(2), 2)
    assert newest_step(folder) == 2


def test_the_newest_are_kept_and_those_for_good(folder) -> None:
    save(folder, *range(1, 9), keep_last=2, keep_every_steps=3)
    assert [checkpoint.step for checkpoint in checkpoints(folder)] == [3, 6, 7, 8]


def test_a_checkpoint_that_is_not_whole_on_the_disk_deletes_none(folder, monkeypatch) -> None:
    save(folder, 1)
    monkeypatch.setattr(Checkpoint, "damage", lambda self, sizes_only: "a shard is short")
    with pytest.raises(UserError, match="not whole on the disk \\(a shard is short\\)"):
        save(folder, 2)
    monkeypatch.undo()
    assert newest_step(folder) == 1


@pytest.mark.parametrize("wait", [Saver.wait_until_staged, Saver.finish])
def test_without_memory_for_a_copy_training_waits_and_says_so(folder, monkeypatch, wait) -> None:
    def stage(self, state):
        raise MemoryError("no memory for a copy")

    monkeypatch.setattr(DefaultStager, "stage", stage)
    said: list[str] = []
    with saver_of(folder, said, mode="process", keep_last=2) as saver:
        for step in (1, 2):
            state = state_of(step)
            saver.begin(state, step)
            wait(saver)
            state["model"]["w"].zero_()
    assert [checkpoint.step for checkpoint in checkpoints(folder)] == [1, 2]
    assert newest_step(folder) == 2
    assert len(said) == 2
    assert "a process beside (that needs several processes" in said[0]
    assert "From now on a thread writes them" in said[0]
    assert "a thread (the state cannot be copied aside: no memory for a copy)" in said[1]
    assert "From now on training itself, which waits for it, writes them" in said[1]


def test_processes_save_together_by_all_modes_and_one_process_reads_it(folder) -> None:
    script = Path(__file__).with_name("saving_together.py")
    done = torchrun(2, folder.path, script=script)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert said == [
        ["by process: process"],
        ["after SIGTERM to the writers: process"],
        ["without a writer: thread", said[2][1]],
        ["without shared memory: thread", said[3][1]],
        ["without memory: sync", said[4][1]],
        ["without space", said[5][1]],
    ]
    assert "a process beside (RuntimeError: it ended with exit code -9)" in said[2][1]
    assert "is too small" in said[3][1]
    assert "a thread (the state cannot be copied aside: no memory in process 1)" in said[4][1]
    assert "step 6 could not be written" in said[5][1]
    assert "[rank" not in done.stderr + done.stdout  # no chatter
    steps = [checkpoint.step for checkpoint in checkpoints(folder)]
    assert steps == [1, 2, 3, 4, 5]
    for checkpoint in checkpoints(folder):
        assert checkpoint.damage() is None
        state = load(checkpoint, {"w": torch.empty(5, 3)})
        assert torch.equal(state["w"], torch.arange(15.0).view(5, 3) + checkpoint.step)


def test_a_run_killed_in_its_saves_goes_on_as_if_nothing_had_been(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 1, 8)).astype(np.float32)
    recipe = small_recipe(
        tmp_path, write_arrays(tmp_path, x=x), [2], train={"num_steps": 20, "log_every": 5}
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["train", str(recipe), f"run_dir={whole}"]) == 0
    script = Path(__file__).with_name("killed_in_a_save.py")
    for phase, step, left in (
        ("write", 10, [5]),
        ("publish", 10, [5]),
        ("delete", 15, [10, 15]),
    ):
        command = ["train", recipe, f"run_dir={killed}"]
        environment = os.environ | {"KILL_IN": phase, "KILL_AT": str(step)}
        done = rawdiff(*command, script=script, env=environment)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
        there = checkpoints(RunFolder(killed))
        assert [checkpoint.step for checkpoint in there] == left
        assert all(checkpoint.damage() is None for checkpoint in there)
    done = rawdiff("train", recipe, f"run_dir={killed}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "after step 15" in done.stdout
    first, second = checkpoint_tensors(killed, 20), checkpoint_tensors(whole, 20)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    names = sorted(path.name for path in (killed / "checkpoints").iterdir())
    assert names == ["step-00000015", "step-00000020"]


def test_verify_lists_all_checkpoints_and_fails_if_the_newest_is_damaged(tmp_path, capsys) -> None:
    x = np.zeros((20, 1, 8), dtype=np.float32)
    recipe = small_recipe(
        tmp_path,
        write_arrays(tmp_path, x=x),
        [2],
        train={"num_steps": 6},
        checkpoint={"every_steps": 2, "keep_last": 2, "keep_every_steps": 4},
    )
    run = tmp_path / "run"

    def verify(expected: int) -> list[str]:
        capsys.readouterr()
        assert main(["verify", str(run)]) == expected
        return capsys.readouterr().out.splitlines()

    assert main(["train", str(recipe)]) == 0
    _, fourth, sixth = verify(0)
    assert fourth.split()[0] == "4"
    assert "for good" in fourth
    assert sixth.split()[0] == "6"
    assert "until newer ones" in sixth
    assert "sound" in fourth
    assert "sound" in sixth
    flip_a_bit(run / "checkpoints" / "step-00000004" / SHARD)
    assert f"DAMAGED: {SHARD} has another checksum" in verify(0)[1]
    (run / "checkpoints" / "step-00000006" / "recipe.yaml").unlink()
    assert "DAMAGED: recipe.yaml is missing" in verify(1)[2]
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoint" in verify(1)[0]
