"""What a checkpoint and a line of the log cost, on the disk of the run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

from rawdiff.bench.measured import Saving
from rawdiff.bench.parts import Parts, surrounded
from rawdiff.data.dataset import Batch
from rawdiff.parallel.apply import local, named_tensors
from rawdiff.saved.interval import seconds_between
from rawdiff.train.loop import Loop

ROOM_FOR = 2.5  # checkpoints: the one before goes after the next is there


def state_bytes(loop: Loop) -> int:
    """Of the state that all processes save."""
    mine = sum(local(tensor).nbytes for tensor in named_tensors(loop.state.state_dict()).values())
    return sum(loop.processes.gather(mine))


def why_no_saving(loop: Loop, num_bytes: int) -> str:
    """Empty where there is room on the disk."""
    path = loop.folder.path
    free = loop.processes.from_first(lambda: shutil.disk_usage(path).free)
    if free > ROOM_FOR * num_bytes:
        return ""
    return (
        f"not measured: a checkpoint takes {num_bytes / 1e9:.3g} GB, and {free / 1e9:.3g} GB are "
        f"free on the disk of {path.parent}"
    )


def time_saving(
    loop: Loop, batches: Iterator[Batch], num_bytes: int, step: float, patience: float
) -> Saving:
    """Of a save as the loop does it, beside the next step of `step` seconds.

    The first save has things to set up, so the second one counts, if the first leaves time.
    """
    stall, seconds = _save(loop, batches)
    if loop.processes.from_first(lambda: seconds < patience):
        stall, seconds = _save(loop, batches)
    settings = loop.state.recipe.checkpoint
    if settings.every_steps == "auto":
        every = seconds_between(stall, settings.mean_hours_between_failures)
        return Saving(stall, seconds, num_bytes, every, None)
    return Saving(stall, seconds, num_bytes, settings.every_steps * step, settings.every_steps)


def _save(loop: Loop, batches: Iterator[Batch]) -> tuple[float, float]:
    """Seconds for which training stands still, and until the checkpoint is on the disk."""
    parts, start = Parts(loop.state.device), time.perf_counter()
    staging = (loop.saver, "wait_until_staged", "stall")
    with surrounded([staging], parts.time), parts.time("rest"):
        with parts.time("stall"):
            loop.save()
        loop.train_step(next(batches))
    loop.saver.finish()
    return parts.medians()["stall"], time.perf_counter() - start


def time_log(loop: Loop) -> float:
    """Seconds of a line of the log."""
    parts = Parts(loop.state.device)
    for _ in range(3):
        with parts.time("log"):
            loop.write_log()
    return parts.medians()["log"]
