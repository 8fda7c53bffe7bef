"""A trace of some steps for chrome://tracing or Perfetto, with the parts of a step by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function

from rawdiff.bench.parts import surrounded
from rawdiff.bench.steps import STEP, functions
from rawdiff.data.dataset import Batch
from rawdiff.train.loop import Loop

NUM_STEPS = 3


def write_profile(loop: Loop, batches: Iterator[Batch], path: Path) -> None:
    """A few steps of the loop; the first process writes its own."""
    loop.train_step(next(batches))
    kinds = [ProfilerActivity.CPU]
    if loop.state.device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with (
        profile(activities=kinds) as trace,
        surrounded(functions(loop), record_function),
    ):
        for _ in range(NUM_STEPS):
            with record_function(STEP):
                loop.train_step(next(batches))
    if loop.processes.is_first:
        trace.export_chrome_trace(str(path))
