"""Runs cells as commands of their own: one after another, or several at a time."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rawdiff.errors import UserError
from rawdiff.recipe_file import write_recipe
from rawdiff.study.cells import Cell
from rawdiff.study.stages import STAGES, is_trained
from rawdiff.train.stopping import STOPPED, StoppedError, StopSignal

Environment = dict[str, str]
MAX_MESSAGE = 200  # characters of an error in the table


@dataclass(frozen=True)
class Ending:
    """How a cell ended: finished, or failed for a reason; and what it took in this call."""

    cell: Cell
    seconds: float
    failure: str | None


def places(cells: Sequence[Cell], parallel: int | None) -> list[Environment]:
    """The environment of each of the cells that run at a time.

    Each gets a GPU of its own, as long as there are any left; by default there are as many as GPUs.
    On a CPU it is one, and more share its threads. Raises UserError for less than one.
    """
    if parallel is not None and parallel < 1:
        raise UserError(f"--parallel {parallel} runs nothing; give 1 or more.")
    gpus = [] if all(cell.recipe.train.device == "cpu" for cell in cells) else _gpus()
    if gpus:
        num = min(parallel or len(gpus), len(cells))
        return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(num)]
    num = min(parallel or 1, len(cells))
    if num == 1:
        return [{}]
    threads = max(torch.get_num_threads() // num, 1)
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(num)]


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(torch.cuda.device_count())]
    return names if chosen is None else chosen.split(",")[: len(names)]


@dataclass
class Runner:
    """Takes cells through their stages, `places` at a time; what they print goes to their logs.

    `lock` is a file descriptor that cells inherit: where this process is killed, a cell that goes
    on holds the study until it ends.
    """

    places: Sequence[Environment]
    lock: int
    _free: queue.SimpleQueue[Environment] = field(default_factory=queue.SimpleQueue)
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: StopSignal = field(default_factory=StopSignal)
    _broken: bool = False
    _cell_stopped: bool = False

    def run(
        self,
        cells: Sequence[Cell],
        *,
        begins: Callable[[Cell], None],
        ended: Callable[[Ending], None],
    ) -> str | None:
        """Run all cells; `begins` and `ended` are called for each, one call at a time.

        A cell that is stopped does not end. Returns the signal that stopped all, or the word for a
        limit of its own that stopped a cell; None if nothing did. A stop is handed on to the cells,
        whose training then leaves a checkpoint; so is an exception of `begins` or `ended`, which is
        raised when they have stopped.
        """
        for place in self.places:
            self._free.put(place)
        with self._stop, ThreadPoolExecutor(len(self.places)) as pool:
            left = {pool.submit(self._cell, cell, begins, ended) for cell in cells}
            try:
                self._wait(left)
            except BaseException:  # what could not be told, or a second Ctrl-C
                self._broken = True
                self._hand_on()
                raise
        return self._stop.received or ("a cell's own limit" if self._cell_stopped else None)

    def _wait(self, left: set[Future[None]]) -> None:
        """Until all cells ended; raises what `begins` or `ended` raised."""
        handed_on = False
        while left:
            done, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if self._stop and not handed_on:
                self._hand_on()
                handed_on = True

    @property
    def _stopping(self) -> bool:
        """True from the signal on: Ctrl-C ends commands before anything is handed on to them."""
        return bool(self._stop) or self._broken

    def _hand_on(self) -> None:
        with self._lock:
            for process in self._running:
                process.send_signal(signal.SIGTERM)

    def _cell(
        self, cell: Cell, begins: Callable[[Cell], None], ended: Callable[[Ending], None]
    ) -> None:
        """A cell from where it stands to its end, at the next free place."""
        place, start = self._free.get(), time.perf_counter()
        try:
            with self._lock:
                if self._stopping:
                    return
                begins(cell)
            try:
                failure = self._stages(cell, place)
            except StoppedError:  # its place goes to the next
                self._cell_stopped = True
                return
            except (OSError, UserError) as error:
                failure = str(error)
            with self._lock:
                if failure is None or not self._stopping:
                    ended(Ending(cell, time.perf_counter() - start, failure))
        finally:
            self._free.put(place)

    def _stages(self, cell: Cell, place: Environment) -> str | None:
        """Run what is not done yet; None, or why the first command that failed did so.

        Raises StoppedError where a command was stopped and can be continued.
        """
        if not is_trained(cell):
            write_recipe(cell.recipe, cell.beside_run(".yaml"))
        log = cell.beside_run(".log")
        for stage in STAGES:
            if not stage.is_done(cell):
                code, begin = self._command(stage.arguments(cell), place, log)
                if code == STOPPED:
                    raise StoppedError
                if not stage.is_done(cell):
                    return f"{stage.name}: {why(code, log, begin)}"
        return None

    def _command(self, arguments: list[str], place: Environment, log: Path) -> tuple[int, int]:
        """Run `rawdiff …` to its end; its exit code, and where in the log its output begins."""
        with log.open("ab") as file:
            file.write(f"$ rawdiff {shlex.join(arguments)}\n".encode())
            file.flush()
            begin = file.tell()  # before the command moves it
            with self._lock:
                if self._stopping:
                    return 0, begin
                process = subprocess.Popen(
                    [sys.executable, "-m", "rawdiff", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=os.environ | place,
                    pass_fds=(self.lock,),
                )
                self._running.add(process)
            try:
                return process.wait(), begin
            finally:
                with self._lock:
                    self._running.discard(process)


def why(code: int, log: Path, begin: int) -> str:
    """Why a command ended too early, in a line: its error, or the last that it printed."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.startswith("rawdiff: ")]
    told = lines[errors[-1] :] if errors else lines[-1:]
    text = " ".join(told).removeprefix("rawdiff: ") or f"exit code {code}"
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"
