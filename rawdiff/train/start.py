"""Begin a run or continue it: the same command does both, and says which."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from rawdiff.assemble import (
    Data,
    describe_data,
    make_network,
    open_data,
    require_same_data,
    take_statistics,
)
from rawdiff.averages.snapshots import drop_snapshots
from rawdiff.data.statistics import Statistics
from rawdiff.errors import UserError
from rawdiff.files import locked, write_text
from rawdiff.parallel.apply import mesh_shape
from rawdiff.parallel.processes import Processes, join_processes
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import write_recipe
from rawdiff.saved import checkpoint
from rawdiff.saved.environment import environment_json
from rawdiff.saved.folder import RunFolder
from rawdiff.saved.saving import Saver
from rawdiff.train.cost import measure_cost
from rawdiff.train.heap import keep_freed_memory
from rawdiff.train.log import Log, read_metrics
from rawdiff.train.lookout import Lookout
from rawdiff.train.loop import Loop
from rawdiff.train.pace import Pace
from rawdiff.train.preview import draw_picture, read_seams
from rawdiff.train.rollback import finish_rollback, pass_trouble, read_rollbacks
from rawdiff.train.same_run import require_same_run
from rawdiff.train.setup import first_weights, require_startable, set_up
from rawdiff.train.step import Training
from rawdiff.train.stopping import StoppedError, TimeLimit, stop_at_once
from rawdiff.train.watchdog import Watchdog

Say = Callable[[str], None]


def train(recipe: Recipe, say: Say = print, *, quiet: bool = False) -> RunFolder:
    """Train a recipe to its end, from its newest checkpoint if there is one.

    A `quiet` one shows no progress in the terminal, and nothing that looks wrong on the way.
    Raises UserError for everything that the user can mend; a good checkpoint is never lost. Raises
    StoppedError where it was asked to stop before the end, and PeerFailedError where another
    process failed.
    """
    time_limit = TimeLimit.begin(recipe.train.stop_after_hours)
    device = choose_device(recipe.train.device)
    if device.type == "cpu":
        keep_freed_memory()
    with stop_at_once(), join_processes(on_gpu=device.type == "cuda") as processes:
        require_startable(recipe, device, processes)
        say = processes.only_first(say)
        folder = processes.from_first(lambda: _make_folder(recipe.run_dir))
        with locked(folder.path) if processes.is_first else nullcontext():
            finished = _train(folder, recipe, device, processes, time_limit, say, quiet)
        events = f"  events: {folder.tensorboard}" if folder.tensorboard.is_dir() else ""
        say(f"Run: {folder.path}  log: {folder.metrics}{events}")
        if folder.pictures.is_dir():
            say(f"Pictures: {folder.pictures}")
    if not finished:
        raise StoppedError
    return folder


def _train(
    folder: RunFolder,
    recipe: Recipe,
    device: torch.device,
    processes: Processes,
    time_limit: TimeLimit,
    say: Say,
    quiet: bool,
) -> bool:
    """Whether the run came to its last step."""
    found = processes.from_first(lambda: _checkpoint_of_same_run(folder, recipe, say))
    with processes.first_before_others():  # it may pack the data
        data = open_data(recipe)
    if found is not None:
        before = RunFolder(found.path).data_description()
        require_same_data(before, describe_data(data), folder.path)
    processes.from_first(lambda: _describe_run(folder, recipe, data))
    statistics = processes.from_first(lambda: _statistics(folder, recipe, data, found))
    first = None if found is not None else functools.partial(first_weights, recipe, say)
    training = set_up(recipe, data, statistics, device, processes, first)
    state = training.state
    if found is not None:
        state.load_state_dict(checkpoint.load(found, state.state_dict()))
        pass_trouble(state, processes.from_first(lambda: read_rollbacks(folder)))
        say(f"Continues {folder.path} after step {state.step}.")
    if state.step >= recipe.train.num_steps:
        say(f"{folder.path} is finished: raise `train.num_steps` to go on.")
        return True
    say(_overview(data, training))
    return _run(folder, training, data, statistics, time_limit, quiet)


def _overview(data: Data, training: Training) -> str:
    """What was found, in a line."""
    info, patcher, processes = data.train.info, training.objective.patcher, training.processes
    classes = f" of {info.num_classes} classes" if info.num_classes else ""
    held_out = "" if data.holdout is None else f", {len(data.holdout):,} held out"
    spread = ""
    if processes.count > 1:
        replicate, shard = mesh_shape(training.state.recipe.parallel, processes)
        groups = "1 group" if replicate == 1 else f"{replicate} groups"
        spread = f"; {processes.count} processes: {groups} of {shard} that share the weights"
    return (
        f"{len(data.train):,} training samples{classes}{held_out}; "
        f"{patcher.grid} = {patcher.grid.num_patches} patches of {patcher.patch_dim} values{spread}"
    )


def _make_folder(path: Path) -> RunFolder:
    """The run's folder, made if need be. UserError if it cannot hold a run."""
    folder = RunFolder(path.expanduser())
    if folder.path.exists() and not folder.path.is_dir():
        raise UserError(f"`run_dir: {path}` is a file; give a folder.")
    if folder.is_export:
        raise UserError(f"{path} is an export; choose another `run_dir`.")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The run folder {path} cannot be made: {error}.") from error
    return folder


def _run(
    folder: RunFolder,
    training: Training,
    data: Data,
    statistics: Statistics,
    time_limit: TimeLimit,
    quiet: bool,
) -> bool:
    """Whether the run came to its last step."""
    state, processes = training.state, training.processes
    recipe = state.recipe
    processes.from_first(lambda: drop_snapshots(folder, after=state.step))
    network = make_network(recipe, data.train.info, training.objective.patcher)
    log = Log(
        folder,
        first_step=state.step,
        num_steps=recipe.train.num_steps,
        batch_size=recipe.train.batch_size,
        cost=measure_cost(network),
        device=state.device,
        tensorboard=recipe.train.tensorboard,
        pace=Pace(state.network, processes, state.device),
        processes=processes,
        quiet=quiet,
    )
    saver = Saver(folder, recipe.checkpoint, processes, state.device, log.say)
    watchdog = Watchdog(folder, processes, recipe.parallel.timeout_minutes)
    with log, saver:
        lookout = Lookout(recipe, log.say)
        seen = read_metrics(folder.metrics), read_seams(folder)
        lookout.begin(data.train.info, statistics, *seen)
        draw = functools.partial(draw_picture, training, folder, data, log, network, lookout)
        return Loop(training, folder, log, saver, draw, watchdog, time_limit, lookout).run()


def _checkpoint_of_same_run(
    folder: RunFolder, recipe: Recipe, say: Say
) -> checkpoint.Checkpoint | None:
    """The checkpoint to continue from, or None to begin; UserError if the recipe is another."""
    finish_rollback(folder)
    found = checkpoint.find_checkpoint(folder, None, say)
    if found is None:
        _require_no_lost_checkpoints(folder)
        folder.rollbacks.unlink(missing_ok=True)
        if (folder.path / "recipe.yaml").is_file():
            say(f"{folder.path} holds a run that stopped before its first checkpoint: begins.")
        return None
    require_same_run(
        RunFolder(found.path).recipe(),
        recipe,
        f"{folder.path} holds a run with",
        "Continue with the old values, or choose another `run_dir` for the new ones.",
    )
    return found


def _require_no_lost_checkpoints(folder: RunFolder) -> None:
    """UserError if the log goes on where a checkpoint must have been: it is elsewhere now."""
    last = max((int(line["step"]) for line in read_metrics(folder.metrics)), default=0)
    if not last:
        return
    every = folder.recipe().checkpoint.every_steps
    # The second one began only after the first was there.
    if every != "auto" and last > 2 * every:
        raise UserError(
            f"The log of {folder.path} goes to step {last}, but there is no checkpoint; one was to "
            f"be written every {every} steps. Bring {folder.checkpoints} back (a disk that is "
            f"not mounted?), or delete {folder.metrics} to begin anew."
        )


def _describe_run(folder: RunFolder, recipe: Recipe, data: Data) -> None:
    """Write what describes the run."""
    write_recipe(recipe, folder.path / "recipe.yaml")
    write_text(folder.path / "data.json", describe_data(data))
    write_text(folder.path / "environment.json", environment_json())


def _statistics(
    folder: RunFolder, recipe: Recipe, data: Data, found: checkpoint.Checkpoint | None
) -> Statistics:
    if found is None:
        statistics = take_statistics(recipe, data.train)
    else:
        statistics = RunFolder(found.path).statistics()
    statistics.save(folder.statistics_file)
    return statistics
