"""A fault of one process is told once, in plain words, and nobody waits for ever."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image
from processes import side_by_side, torchrun
from runs import small_recipe, write_arrays

FAULTY = Path(__file__).with_name("faulty.py")


def _recipe(folder: Path, **changes: object) -> Path:
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 2, 6, 6)).astype(np.float32)
    return small_recipe(folder, write_arrays(folder, x=x), [2, 2], **changes)


def _messages(*texts: str) -> list[str]:
    """Lines in which rawdiff complains; torchrun adds a trace of its own."""
    lines = [line for text in texts for line in text.splitlines()]
    traced = [line for line in lines if line.startswith('  File "')]
    assert not [
        line for line in traced if "/torch/distributed/" not in line and "runpy" not in line
    ]
    return [line for line in lines if "rawdiff: " in line]


def test_a_process_that_hangs_is_named_and_all_leave_their_stacks(tmp_path) -> None:
    recipe = _recipe(tmp_path, parallel={"timeout_minutes": 0.1})
    done = torchrun(2, "hang", 1, 4, "train", recipe, script=FAULTY)
    assert done.returncode == 1
    (message,) = _messages(done.stdout, done.stderr)
    assert "Waited 0.1 minutes in step" in message
    assert "Process 1 on" in message
    assert "stands still longest: in `update` of step 4" in message
    assert str(tmp_path / "run" / "stacks") in message
    stacks = [path.read_text() for path in sorted((tmp_path / "run" / "stacks").iterdir())]
    assert len(stacks) == 2
    assert "in hang" not in stacks[0]
    assert "in hang" in stacks[1]
    beats = sorted((tmp_path / "run" / "heartbeats").glob("*.json"))
    assert json.loads(beats[1].read_text())["step"] == 4


def test_a_process_that_is_killed_is_missed_at_once(tmp_path) -> None:
    recipe = _recipe(tmp_path)
    ends = side_by_side(2, "kill", 1, 4, "train", recipe, script=FAULTY)
    assert [code for code, _, _ in ends] == [1, -9]
    (message,) = _messages(ends[0][2], ends[1][2])
    assert "Another process ended in step" in message


def test_a_flipped_bit_in_one_replica_is_not_saved(tmp_path) -> None:
    recipe = _recipe(tmp_path, parallel={"replicate": 2, "shard": 1})
    ends = side_by_side(2, "flip", 1, 7, "train", recipe, script=FAULTY)
    assert sorted(code for code, _, _ in ends) == [1, 2]
    (message,) = _messages(ends[0][2], ends[1][2])
    assert "Process 0 on" in message
    assert "or process 1 on" in message
    assert "hold other bits now" in message
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == ["step-00000005"]


def test_a_file_that_one_process_cannot_read_is_told_once(tmp_path) -> None:
    for i in range(12):
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), i, dtype=np.uint8)).save(path)
    (tmp_path / "images" / "7.png").write_bytes(path.read_bytes()[:60])
    model = "model={width: 32, depth: 2, heads: 2, in_context_len: 0}"
    train = "train={num_steps: 20, batch_size: 2, device: cpu, tensorboard: false}"
    data = [f"data.path={path.parent}", "data.size=16", "data.on_error=stop", "data.labels=false"]
    keys = [model, train, *data, "holdout=null", "checkpoint.ema_every_steps=null"]
    done = torchrun(2, "train", "images", f"run_dir={tmp_path / 'run'}", *keys)
    assert done.returncode == 1
    (message,) = _messages(done.stdout, done.stderr)
    assert "7.png" in message
    assert re.search(r"\(in process [01] of 2\)", message)
