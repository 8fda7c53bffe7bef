"""The loop of `rawdiff train` in a folder that goes away, for steps of any size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rawdiff.assemble import Data, describe_data, make_network
from rawdiff.data.statistics import Statistics
from rawdiff.files import write_text
from rawdiff.parallel.processes import Processes
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import write_recipe
from rawdiff.saved.environment import environment_json
from rawdiff.saved.folder import RunFolder
from rawdiff.saved.saving import Saver
from rawdiff.train.cost import measure_cost
from rawdiff.train.log import Log
from rawdiff.train.lookout import Lookout
from rawdiff.train.loop import Loop
from rawdiff.train.pace import Pace
from rawdiff.train.setup import set_up
from rawdiff.train.stopping import TimeLimit
from rawdiff.train.watchdog import Watchdog


@contextmanager
def scratch_folder(run_dir: Path, processes: Processes) -> Iterator[RunFolder]:
    """A folder beside the run's, on the same disk, that is gone afterwards.

    Where nothing may be written there it lies in the system's folder for such files.
    """
    with ExitStack() as stack:

        def make() -> Path:
            beside = run_dir.expanduser().resolve().parent
            while not beside.is_dir():
                beside = beside.parent
            try:
                made = tempfile.TemporaryDirectory(prefix=".rawdiff-bench-", dir=beside)
            except OSError:
                made = tempfile.TemporaryDirectory(prefix="rawdiff-bench-")
            return Path(stack.enter_context(made))

        yield RunFolder(processes.from_first(make))


def describe(folder: RunFolder, recipe: Recipe, data: Data, statistics: Statistics) -> None:
    """Write what a checkpoint takes along."""
    write_recipe(recipe, folder.path / "recipe.yaml")
    write_text(folder.path / "data.json", describe_data(data))
    write_text(folder.path / "environment.json", environment_json())
    statistics.save(folder.statistics_file)


@contextmanager
def open_loop(
    recipe: Recipe,
    data: Data,
    statistics: Statistics,
    device: torch.device,
    processes: Processes,
    folder: RunFolder,
) -> Iterator[Loop]:
    """The loop of a new run, before its first step; it says nothing, and draws no pictures."""
    training = set_up(
        recipe, data, statistics, device, processes, lambda new: new.initialize(recipe.seed)
    )
    processes.limit_waiting(recipe.parallel.timeout_minutes)
    network = make_network(recipe, data.train.info, training.objective.patcher)
    log = Log(
        folder,
        first_step=0,
        num_steps=recipe.train.num_steps,
        batch_size=recipe.train.batch_size,
        cost=measure_cost(network),
        device=device,
        tensorboard=recipe.train.tensorboard,
        pace=Pace(training.state.network, processes, device),
        processes=processes,
        quiet=True,
    )
    checkpoint = recipe.checkpoint.model_copy(update={"keep_last": 1, "keep_every_steps": None})
    saver = Saver(folder, checkpoint, processes, device, lambda text: None)
    watchdog = Watchdog(folder, processes, recipe.parallel.timeout_minutes)
    with log, saver:
        lookout = Lookout(recipe, log.say)
        yield Loop(training, folder, log, saver, lambda: None, watchdog, TimeLimit(), lookout)


def with_train(loop: Loop, **keys: Any) -> Loop:
    """The same loop, whose state goes on, with other values of keys of `train`."""
    return _with(loop, "train", keys)


def with_parallel(loop: Loop, **keys: Any) -> Loop:
    """As `with_train`, of `parallel`; its network stays as it is."""
    return _with(loop, "parallel", keys)


def _with(loop: Loop, section: str, keys: dict[str, Any]) -> Loop:
    state, training = loop.state, loop.training
    settings = getattr(state.recipe, section).model_copy(update=keys)
    state.recipe = state.recipe.model_copy(update={section: settings})
    objective = replace(training.objective, recipe=state.recipe)
    return replace(loop, training=replace(training, objective=objective))


def with_sizes(loop: Loop, micro_batch: int, num_micro_batches: int) -> Loop:
    """The same loop for steps of so many micro-batches on each process."""
    size = micro_batch * num_micro_batches * loop.processes.count
    return with_train(loop, micro_batch_size=micro_batch, batch_size=size)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
