"""Processes that share the work on a trained run, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rawdiff.parallel.processes import Processes, join_processes
from rawdiff.precision import choose_device
from rawdiff.run import Say
from rawdiff.saved.folder import RunFolder
from rawdiff.train.stopping import StoppedError, stop_at_once
from rawdiff.tuned import tuned_recipe


@contextmanager
def shared_work(path: str | Path, overrides: Sequence[str], say: Say) -> Iterator[Processes]:
    """The processes that were started together, each with its own GPU where the run takes one.

    UserError for overrides that the run's recipe does not take. Raises StoppedError on SIGTERM and
    SIGUSR1, for work that the same call takes up again.
    """
    recipe = tuned_recipe(RunFolder.open(path), overrides, lambda text: None)
    on_gpu = choose_device(recipe.train.device).type == "cuda"
    with stop_at_once(), join_processes(on_gpu) as processes:
        try:
            yield processes
        except StoppedError:
            say_once = processes.only_first(say)
            say_once("Stopped; the same command goes on with what is missing.")
            raise
