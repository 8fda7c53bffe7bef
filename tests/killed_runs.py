"""Runs that are killed at given moments and continued; for tests and benchmarks/kills.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from processes import ENVIRONMENT
from runs import random_recipe

PATIENCE = 240.0


@dataclass(frozen=True)
class Moment:
    """So many seconds after the log shows a step; step 0 is the start of the command."""

    step: int
    seconds: float


@dataclass(frozen=True)
class Kill:
    """What a kill met: the last step in the log, and whether a checkpoint was half written."""

    moment: Moment
    last_step: int
    in_a_save: bool


@dataclass(frozen=True)
class Pace:
    """How long a run takes that nobody kills."""

    num_steps: int
    start_seconds: float
    """Until the log shows the first step."""
    seconds: float

    def moment(self, random: Random) -> Moment:
        """Anywhere in the run, all moments alike.

        Told by the log, so that a busy machine shifts no kill from the steps into the start.
        """
        seconds = random.uniform(0, self.seconds)
        if seconds < self.start_seconds:
            return Moment(0, seconds)
        of_a_step = (self.seconds - self.start_seconds) / self.num_steps
        steps, fraction = divmod((seconds - self.start_seconds) / of_a_step, 1)
        return Moment(int(steps) + 1, fraction * of_a_step)


@dataclass(frozen=True)
class KilledRun:
    """A recipe, trained in a folder by so many processes, by one command however often."""

    recipe: Path
    folder: Path
    num_processes: int = 1

    @property
    def output(self) -> Path:
        """All that the commands wrote."""
        return self.folder.with_suffix(".out")

    def kill(self, moment: Moment) -> Kill | None:
        """Start or continue, and kill all processes; None if the run ended before."""
        before = self._half_written()
        with self._started() as process:
            self._wait_for(process, moment.step)
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment.seconds)
            if process.returncode is not None:
                assert process.returncode == 0, self.output.read_text()
                return None
            kill_all(process)
            return Kill(moment, self.last_step(), bool(self._half_written() - before))

    def finish(self, num_steps: int) -> Pace:
        """Start or continue, to the end."""
        start = time.monotonic()
        with self._started() as process:
            self._wait_for(process, 1)
            first = time.monotonic()
            assert process.wait(PATIENCE) == 0, self.output.read_text()
        return Pace(num_steps, first - start, time.monotonic() - start)

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        program = [*launcher, str(self.num_processes)] if self.num_processes > 1 else []
        train = ["-m", "rawdiff", "train", str(self.recipe), f"run_dir={self.folder}"]
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *program, *train],
                stdout=output,
                stderr=output,
                env=os.environ | ENVIRONMENT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                kill_all(process)

    def _wait_for(self, process: subprocess.Popen[bytes], step: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.last_step() < step and process.poll() is None:
            assert time.monotonic() < deadline, f"no step {step}: {self.output.read_text()}"
            time.sleep(0.002)

    def last_step(self) -> int:
        """Of the log, which has a line for each step."""
        path = self.folder / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.is_file() else 0

    def _half_written(self) -> set[str]:
        return {path.name for path in (self.folder / "checkpoints").glob(".partial-*")}


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all that it started, which have process groups of their own."""
    os.kill(process.pid, signal.SIGSTOP)  # else torchrun would end its processes in its own way
    pids = [process.pid, *_descendants(process.pid)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(60)
    deadline = time.monotonic() + 60
    while not all(_is_gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process outlives SIGKILL"
        time.sleep(0.002)


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += map(int, task.read_text().split())
    return children + [below for child in children for below in _descendants(child)]


def _is_gone(pid: int) -> bool:
    """Also one that nobody has asked for its exit code yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def quick_recipe(folder: Path, num_steps: int) -> Path:
    """All kinds of randomness, and a checkpoint of every second step beside quick ones."""
    return random_recipe(
        folder,
        model={"depth": 2},
        train={"num_steps": num_steps, "micro_batch_size": 4},
        checkpoint={"every_steps": 2, "mode": "thread"},
    )
