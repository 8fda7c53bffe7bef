"""Watches over a run: heartbeats, stacks of all processes where it hangs, and who hangs.

A thread writes, so that the loop does nothing but say what it begins.
"""

from __future__ import annotations

import faulthandler
import json
import os
import platform
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rawdiff.parallel.launch import PeerFailedError
from rawdiff.parallel.processes import Processes, lost_contact
from rawdiff.saved.folder import RunFolder


@dataclass(frozen=True)
class Heartbeat:
    """What a process did since when, and when it was seen alive (seconds since 1970)."""

    step: int
    phase: str
    since: float
    time: float
    host: str
    pid: int


class Watchdog:
    """Around the loop of one process, which calls `begins`.

    Leaves `heartbeats/process-0000.json`, renewed every few seconds. A process that does not move
    on for most of `timeout_minutes` writes the stacks of its threads to
    `stacks/process-0000.txt`, before those that wait for it give up. Raises PeerFailedError, which
    says what is known, instead of an error that says that another process is out of reach.
    """

    def __init__(self, folder: RunFolder, processes: Processes, timeout_minutes: float) -> None:
        self.folder, self.processes, self.timeout_minutes = folder, processes, timeout_minutes
        seconds = 60 * timeout_minutes
        # A shared file system should not notice a thousand processes.
        self.interval = min(max(5.0, processes.count / 50), seconds / 20)
        self.patience = 0.7 * seconds
        self._doing = (0, "start", time.time())
        self._first_step: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._stacks: TextIO | None = None

    def begins(self, phase: str, step: int) -> None:
        """What this process does from now on for the step of this number."""
        self._doing = (step, phase, time.time())
        if self._first_step is None:
            self._first_step = step
        if step == self._first_step + 1 and phase == "data":
            self.processes.limit_waiting(self.timeout_minutes)

    def __enter__(self) -> Watchdog:
        path = self._path_of_stacks(self.processes.rank)
        with suppress(OSError):  # a run is worth more than what watches it
            path.parent.mkdir(exist_ok=True)
            self._stacks = path.open("a", encoding="utf-8")
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if error is not None and (reason := lost_contact(error)):
            raise PeerFailedError(self._explain(reason)) from error
        self._doing = (self._doing[0], "failed" if error else "ended", time.time())
        self._beat()
        if self._stacks is not None:
            self._stacks.close()
            path = self._path_of_stacks(self.processes.rank)
            with suppress(OSError):
                if not path.stat().st_size:
                    path.unlink()
                    path.parent.rmdir()

    def _watch(self) -> None:
        """Every few seconds: a heartbeat, and more time before stacks are written if it moved."""
        seen = None
        while not self._ended.wait(self.interval):
            self._beat()
            step, _, _ = doing = self._doing
            compiled = self._first_step is not None and step > self._first_step
            if self._stacks is not None and doing != seen and compiled:
                faulthandler.dump_traceback_later(self.patience, file=self._stacks)
                seen = doing

    def _beat(self) -> None:
        step, phase, since = self._doing
        beat = Heartbeat(step, phase, since, time.time(), platform.node(), os.getpid())
        path = self._path_of_heartbeat(self.processes.rank)
        partial = path.with_name(f".{path.name}.partial")
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            partial.write_text(json.dumps(asdict(beat)), encoding="utf-8")
            partial.replace(path)

    def _path_of_heartbeat(self, rank: int) -> Path:
        return self.folder.heartbeats / f"process-{rank:04d}.json"

    def _path_of_stacks(self, rank: int) -> Path:
        return self.folder.stacks / f"process-{rank:04d}.txt"

    def _waits(self, rank: int) -> bool:
        """Whether a process waited for others, by the last stacks that it wrote."""
        with suppress(OSError):
            text = self._path_of_stacks(rank).read_text(encoding="utf-8", errors="replace")
            return "/torch/distributed/" in text.rpartition("Timeout (")[2]
        return False

    def _explain(self, reason: str) -> str:
        """For the user: who is out of reach, as far as the heartbeats tell."""
        step, _, _ = self._doing
        again = "The same command continues from the last checkpoint."
        if reason == "gone":
            return (
                f"Another process ended in step {step} without a word: it was killed (out of "
                f"memory?) or its machine is gone. Its launcher or the system log of its machine "
                f"says more. {again}"
            )
        return (
            f"Waited {self.timeout_minutes:g} minutes in step {step} for another process "
            f"(`parallel.timeout_minutes`). {self._longest_still()} The stacks of all processes: "
            f"{self.folder.stacks}. {again} If the same machine hangs again, leave it out."
        )

    def _longest_still(self) -> str:
        """The process that stands still longest, of those that do not wait themselves."""
        beats: list[tuple[bool, float, int, Heartbeat]] = []
        for rank in range(self.processes.count):
            with suppress(OSError, ValueError, TypeError):
                content = self._path_of_heartbeat(rank).read_text(encoding="utf-8")
                beat = Heartbeat(**json.loads(content))
                beats.append((self._waits(rank), beat.since, rank, beat))
        if not beats:
            return f"No heartbeat can be read in {self.folder.heartbeats}."
        _, since, rank, beat = min(beats)
        clock = time.strftime("%H:%M:%S", time.localtime(since))
        return (
            f"Process {rank} on {beat.host} (pid {beat.pid}) stands still longest: in "
            f"`{beat.phase}` of step {beat.step} since {clock}."
        )
