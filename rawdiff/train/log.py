"""What a run tells while it goes: metrics.jsonl, TensorBoard, lines or a bar in the terminal."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TextIO, TypeVar

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tensorboardX import SummaryWriter

from rawdiff.console import PatientConsole
from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.saved.folder import RunFolder
from rawdiff.train.cost import Cost, peak_flops
from rawdiff.train.pace import Pace

T = TypeVar("T")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a log, but for those that a kill cut short or damaged; none if there is no log.

    Each holds numbers alone.
    """
    lines: list[dict[str, float]] = []
    content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for text in content.splitlines():
        with suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and all(isinstance(v, int | float) for v in line.values()):
                lines.append(line)
    return [line for line in lines if math.isfinite(line.get("step", math.nan))]


def training_seconds(lines: Sequence[Mapping[str, float]]) -> float:
    """Of training, without what a kill lost: each step counts once, at the speed of its window."""
    seconds, before = 0.0, 0.0
    for line in lines:
        seconds += (line["samples"] - before) / max(line["samples_per_second"], 1e-9)
        before = line["samples"]
    return seconds


def truncate_metrics(path: Path, step: int) -> None:
    """Drop lines of steps after `step`: the run that continues there writes them again."""
    if path.is_file():
        kept = [json.dumps(line) for line in read_metrics(path) if line["step"] <= step]
        write_text(path, "".join(f"{line}\n" for line in kept))


class Log:
    """The log of a run from a step on; the first process writes it for all.

    A `quiet` one says nothing in the terminal.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        first_step: int,
        num_steps: int,
        batch_size: int,
        cost: Cost,
        device: torch.device,
        tensorboard: bool,
        pace: Pace,
        processes: Processes = ALONE,
        quiet: bool = False,
    ) -> None:
        self.folder, self.speaks = folder, processes.is_first
        self.tensorboard = tensorboard
        self.num_steps, self.batch_size, self.cost = num_steps, batch_size, cost
        self.peak, self.pace = peak_flops(device), pace
        quiet = quiet or not self.speaks
        self.console = PatientConsole(highlight=False, soft_wrap=True, quiet=quiet)
        self.bar = _progress(self.console) if self.console.is_terminal and not quiet else None
        self.task = (
            self.bar.add_task("", total=num_steps, completed=first_step, tail="")
            if self.bar
            else None
        )
        self._open(first_step)

    def _open(self, first_step: int) -> None:
        """The files, without lines of later steps; the clocks begin anew."""
        if self.speaks:
            truncate_metrics(self.folder.metrics, first_step)
        self.file = _open_for_lines(self.folder.metrics if self.speaks else Path(os.devnull))
        self.board = (
            SummaryWriter(str(self.folder.tensorboard), purge_step=first_step + 1)
            if self.tensorboard and self.speaks
            else None
        )
        self.started = self.last_time = time.perf_counter()
        self.first_step = self.last_step = first_step
        self.data_seconds = 0.0

    def go_back(self, step: int) -> None:
        """Go on after an earlier step: what was written of later ones is dropped."""
        self._close()
        self._open(step)
        self.advance(step)

    def _close(self) -> None:
        with suppress(OSError):  # what could not be written was reported by `write`
            self.file.close()
        if self.board:
            self.board.close()

    def __enter__(self) -> Log:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()
        self._close()

    def say(self, text: str) -> None:
        """A line of text to the terminal."""
        self.console.print(text, markup=False)

    def timed(self, load: Callable[[], T]) -> T:
        """The result of a piece of data loading, whose time is counted."""
        start = time.perf_counter()
        result = load()
        self.data_seconds += time.perf_counter() - start
        return result

    def advance(self, step: int) -> None:
        """Move the bar, where there is one; costs nothing on the device."""
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=step)

    def write(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """One line of the log, which is returned: metrics of the window, speed and time left."""
        values = metrics | self._speed(step)
        line = {"step": step, "samples": step * self.batch_size} | values
        try:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        except OSError as error:
            raise UserError(
                f"{self.file.name} cannot be written: {error}. Free some space and give the same "
                "command again; the run continues from its last checkpoint."
            ) from error
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        left = values["seconds_left"]
        loss = f"loss {metrics['loss']:.4f}" if "loss" in metrics else "no step taken"
        skipped = f"  {metrics['skipped']:.0f} skipped" if "skipped" in metrics else ""
        tail = f"{loss}{skipped}  {values['samples_per_second']:,.0f} samples/s"
        if self.bar and self.task is not None:
            clock = timedelta(seconds=round(left))
            self.bar.update(self.task, completed=step, tail=f"{tail}  {clock} left")
        else:
            self.say(f"step {step}/{self.num_steps}  {tail}  {timedelta(seconds=round(left))} left")
        return line

    def _speed(self, step: int) -> dict[str, float]:
        now = time.perf_counter()
        seconds = max(now - self.last_time, 1e-9)
        samples = (step - self.last_step) * self.batch_size
        flops = samples * self.cost.train_flops / seconds
        overall = (now - self.started) / max(step - self.first_step, 1)
        speed = {
            "samples_per_second": samples / seconds,
            "model_flops": flops,
            "seconds_left": overall * (self.num_steps - step),
        }
        shares, warning = self.pace.read(self.data_seconds / seconds)
        if warning:
            self.say(warning)
        if self.peak:
            speed["mfu"] = flops / self.peak
        self.last_time, self.last_step, self.data_seconds = now, step, 0.0
        return speed | shares

    def picture(self, step: int, image: Image.Image) -> None:
        if self.board:
            pixels = np.asarray(image.convert("RGB"))
            self.board.add_image("samples", pixels, step, dataformats="HWC")


def _open_for_lines(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}.") from error


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[tail]}"),
        console=console,
    )
