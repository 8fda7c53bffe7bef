"""A run stops where it is asked to: with a checkpoint, and a code that says what to do."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import side_by_side, torchrun
from runs import checkpoint_tensors, metrics, small_recipe, write_arrays

from rawdiff.cli.main import main
from rawdiff.train import start
from rawdiff.train.stopping import STOPPED, StopSignal, TimeLimit

FAULTY = Path(__file__).with_name("faulty.py")


def _recipe(folder: Path, **changes: object) -> Path:
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 2, 6, 6)).astype(np.float32)
    return small_recipe(folder, write_arrays(folder, x=x), [2, 2], **changes)


def _steps(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_signal_to_one_process_stops_all_after_the_same_step_and_costs_nothing(tmp_path) -> None:
    """The answer of all comes a step later: told in step 7, they stop after step 8."""
    recipe = _recipe(tmp_path, train={"num_steps": 12}, checkpoint={"every_steps": 50})
    whole, run = tmp_path / "whole", tmp_path / "stopped"
    done = torchrun(2, "train", recipe, f"run_dir={whole}")
    assert done.returncode == 0, done.stderr

    stopped = torchrun(2, "stop", 1, 7, "train", recipe, f"run_dir={run}", script=FAULTY)
    assert "Stopped by SIGTERM to process 1 of 2 after step 8, with a checkpoint" in stopped.stdout
    assert stopped.returncode == 1  # torchrun knows no other code
    assert f"exitcode  : {STOPPED}" in stopped.stderr
    assert "rawdiff: " not in stopped.stderr
    assert _steps(run) == ["step-00000008"]

    ends = side_by_side(2, "train", recipe, f"run_dir={run}")
    assert [code for code, _, _ in ends] == [0, 0], ends
    expected, found = checkpoint_tensors(whole, 12), checkpoint_tensors(run, 12)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    losses = [[line["loss"] for line in metrics(folder)] for folder in (whole, run)]
    assert losses[0] == losses[1]


def test_every_process_of_a_stopped_run_says_so_by_its_code(tmp_path) -> None:
    """The first process's clock counts. What is left ends at once, and says that it is done."""
    recipe = _recipe(tmp_path, train={"num_steps": 12})
    ends = side_by_side(2, "train", recipe, "train.stop_after_hours=1e-9")
    assert [code for code, _, _ in ends] == [STOPPED, STOPPED], ends
    assert "Stopped by `train.stop_after_hours: 1e-09` after step 2" in ends[0][1]
    assert ends[1][1:] == ("", "")
    assert _steps(tmp_path / "run") == ["step-00000002"]


def test_a_time_limit_may_change_while_a_run_goes_on(tmp_path, capsys) -> None:
    command = ["train", str(_recipe(tmp_path, train={"num_steps": 3}))]
    assert main([*command, "train.stop_after_hours=1e-9"]) == STOPPED == 75
    assert "after step 1, with a checkpoint" in capsys.readouterr().out
    assert main([*command, "train.stop_after_hours=1"]) == 0
    assert "Stopped" not in capsys.readouterr().out


def _limit(monkeypatch, hours: float | None, job_seconds: float | None) -> float | None:
    """Seconds from now to the end of a run that begins now."""
    monkeypatch.setattr("time.monotonic", lambda: 5.0)
    monkeypatch.setattr("time.time", lambda: 1e9)
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    if job_seconds is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(1e9 + job_seconds)))
    ends = TimeLimit.begin(hours).ends
    return None if ends is None else ends - 5.0


def test_a_run_stops_before_its_job_is_killed_and_no_later_than_asked(monkeypatch) -> None:
    assert _limit(monkeypatch, None, None) is None
    assert _limit(monkeypatch, 2, None) == 7200
    assert _limit(monkeypatch, None, 36_000) == 35_700  # five minutes before
    assert _limit(monkeypatch, None, 600) == 540  # a short job has a short margin
    assert _limit(monkeypatch, 1, 36_000) == 3600
    assert _limit(monkeypatch, 20, 36_000) == 35_700
    assert _limit(monkeypatch, None, -10) is None  # left by a job that is over


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_what_a_launcher_repeats_does_not_end_the_last_save(number) -> None:
    with StopSignal() as stop:
        for following in (number, number, signal.SIGTERM):
            signal.raise_signal(following)
        assert stop.received == number.name


def test_a_later_ctrl_c_interrupts_at_once(monkeypatch) -> None:
    with StopSignal():
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr("time.monotonic", lambda: float("inf"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_the_first_step_says_that_the_command_continues(
    tmp_path, monkeypatch, number
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(start, "open_data", lambda recipe: signal.raise_signal(number))
    assert main(["train", str(_recipe(tmp_path))]) == STOPPED
    assert signal.getsignal(number) == before
