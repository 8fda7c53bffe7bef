"""Begin a run or continue it: the same command does both, and says which."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.func import functional_call

from rawdiff import picture
from rawdiff.assemble import (
    Data,
    describe_data,
    make_network,
    make_patcher,
    make_writer,
    materialize,
    open_data,
    require_same_data,
    take_statistics,
)
from rawdiff.conditions import draw_conditions
from rawdiff.data.dataset import Batch
from rawdiff.data.loading import Share, run_batches
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Statistics
from rawdiff.errors import UserError
from rawdiff.files import locked, write_text
from rawdiff.model.network import Network
from rawdiff.parallel.apply import mesh_shape, parallelize, require_gatherable
from rawdiff.parallel.batch import share_batch
from rawdiff.parallel.processes import Processes, join_processes
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import write_recipe
from rawdiff.sampling import Sampler, draw_all
from rawdiff.train import checkpoint
from rawdiff.train.averages import drop_snapshots
from rawdiff.train.cost import measure_cost
from rawdiff.train.environment import environment_json
from rawdiff.train.folder import RunFolder
from rawdiff.train.log import Log
from rawdiff.train.loop import Loop
from rawdiff.train.objective import Objective
from rawdiff.train.pace import Pace
from rawdiff.train.rollback import finish_rollback, pass_trouble, read_rollbacks
from rawdiff.train.state import TrainState
from rawdiff.train.stopping import StoppedError, TimeLimit
from rawdiff.train.watchdog import Watchdog
from rawdiff.train.weights import read_weights, take_over

# Keys that may differ when a run goes on: they change how it is watched or spread, not its result.
FREE_KEYS = (
    "run_dir",
    "train.num_steps",
    "train.micro_batch_size",
    "train.num_workers",
    "train.device",
    "train.init_from",
    "train.stop_after_hours",
    "parallel",
    "train.log_every",
    "train.picture_every",
    "train.tensorboard",
    "checkpoint",
    "guard",
    "sample",
    "evaluate",
)

Say = Callable[[str], None]


def train(recipe: Recipe, say: Say = print) -> RunFolder:
    """Train a recipe to its end, from its newest checkpoint if there is one.

    Raises UserError for everything that the user can mend; a good checkpoint is never lost. Raises
    StoppedError where it was asked to stop before the end, and PeerFailedError where another
    process failed.
    """
    time_limit = TimeLimit.begin(recipe.train.stop_after_hours)
    device = choose_device(recipe.train.device)
    with join_processes(on_gpu=device.type == "cuda") as processes:
        share_batch(recipe.train.batch_size, recipe.train.micro_batch_size, processes.count)
        require_gatherable(recipe.parallel, processes.count, recipe.train.precision, device.type)
        say = say if processes.is_first else _say_nothing
        folder = processes.from_first(lambda: _make_folder(recipe.run_dir))
        with locked(folder.path) if processes.is_first else nullcontext():
            finished = _train(folder, recipe, device, processes, time_limit, say)
        say(f"Run: {folder.path}  log: {folder.metrics}  events: {folder.tensorboard}")
        if folder.pictures.is_dir():
            say(f"Pictures: {folder.pictures}")
    if not finished:
        raise StoppedError
    return folder


def _say_nothing(text: str) -> None:
    """One process speaks for all."""


def _train(
    folder: RunFolder,
    recipe: Recipe,
    device: torch.device,
    processes: Processes,
    time_limit: TimeLimit,
    say: Say,
) -> bool:
    """Whether the run came to its last step."""
    found = processes.from_first(lambda: _require_same_run(folder, recipe, say))
    with processes.first_before_others():  # it may pack the data
        data = open_data(recipe)
    if found is not None:
        before = RunFolder(found.path).data_description()
        require_same_data(before, describe_data(data), folder.path)
    processes.from_first(lambda: _describe_run(folder, recipe, data))
    statistics = processes.from_first(lambda: _statistics(folder, recipe, data, found))
    patcher = make_patcher(recipe, data.train.info, statistics, device)
    network = _make_network(recipe, data, patcher, begins=found is None, device=device, say=say)
    parallelize(network, recipe.parallel, processes, device)
    state = TrainState(recipe, network)
    if found is not None:
        state.load_state_dict(checkpoint.load(found, state.state_dict()))
        pass_trouble(state, processes.from_first(lambda: read_rollbacks(folder)))
        say(f"Continues {folder.path} after step {state.step}.")
    if state.step >= recipe.train.num_steps:
        say(f"{folder.path} is finished: raise `train.num_steps` to go on.")
        return True
    say(_overview(data, patcher, recipe, processes))
    return _run(folder, state, patcher, data, processes, time_limit)


def _overview(data: Data, patcher: Patcher, recipe: Recipe, processes: Processes) -> str:
    """What was found, in a line."""
    info = data.train.info
    classes = f" of {info.num_classes} classes" if info.num_classes else ""
    held_out = "" if data.holdout is None else f", {len(data.holdout):,} held out"
    spread = ""
    if processes.count > 1:
        replicate, shard = mesh_shape(recipe.parallel, processes)
        spread = f"; {processes.count} processes: {replicate} groups of {shard} share the weights"
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
    state: TrainState,
    patcher: Patcher,
    data: Data,
    processes: Processes,
    time_limit: TimeLimit,
) -> bool:
    """Whether the run came to its last step."""
    recipe = state.recipe
    objective = Objective(recipe, patcher, data.train, state.device)

    def open_batches(place: int) -> Iterator[Batch]:
        return run_batches(
            data.train,
            seed=recipe.seed,
            batch_size=recipe.train.batch_size,
            start=place,
            num_workers=recipe.train.num_workers,
            share=Share(processes.rank, processes.count),
        )

    processes.from_first(lambda: drop_snapshots(folder, after=state.step))
    network = make_network(recipe, data.train.info, patcher)
    with Log(
        folder,
        first_step=state.step,
        num_steps=recipe.train.num_steps,
        batch_size=recipe.train.batch_size,
        cost=measure_cost(network),
        device=state.device,
        tensorboard=recipe.train.tensorboard,
        pace=Pace(state.network, processes, state.device),
        processes=processes,
    ) as log:
        draw = functools.partial(_draw_picture, folder, patcher, data, log, network, processes)
        watchdog = Watchdog(folder, processes, recipe.parallel.timeout_minutes)
        loop = Loop(
            state, objective, open_batches, folder, log, draw, processes, watchdog, time_limit
        )  # fmt: skip
        return loop.run()


def _require_same_run(folder: RunFolder, recipe: Recipe, say: Say) -> checkpoint.Checkpoint | None:
    """The checkpoint to continue from, or None to begin; UserError if the recipe is another."""
    finish_rollback(folder)
    found = checkpoint.find_checkpoint(folder, None, say)
    if found is None:
        folder.rollbacks.unlink(missing_ok=True)
        if (folder.path / "recipe.yaml").is_file():
            say(f"{folder.path} holds a run that stopped before its first checkpoint: begins.")
        return None
    changes = differences(RunFolder(found.path).recipe(), recipe)
    if changes:
        lines = "\n".join(f"  - {change}" for change in changes)
        raise UserError(
            f"{folder.path} holds a run with another recipe:\n{lines}\n"
            "Continue with the old values, or choose another `run_dir` for the new ones."
        )
    return found


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Keys whose change would make it another run, with both values."""
    free = set(FREE_KEYS)
    if old.train.schedule != "constant":
        free.discard("train.num_steps")  # the end of the run shapes its learning rate
    before, after = _flat(old.plain()), _flat(new.plain())

    def is_free(key: str) -> bool:
        return any(key == one or key.startswith(f"{one}.") for one in free)

    return [
        f"{key}: {before.get(key)!r} there, {after.get(key)!r} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not is_free(key)
    ]


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


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


def _make_network(
    recipe: Recipe, data: Data, patcher: Patcher, *, begins: bool, device: torch.device, say: Say
) -> Network:
    """The network, whole on every process; with its first weights if the run begins."""
    network = materialize(make_network(recipe, data.train.info, patcher), device)
    if begins:
        network.initialize(recipe.seed)
    if begins and recipe.train.init_from is not None:
        source = RunFolder.open(recipe.train.init_from)
        take_over(network, read_weights(source, None, None, say).tensors, str(source.path))
        say(f"Begins with the weights of {source.path}.")
    return network


def _draw_picture(
    folder: RunFolder,
    patcher: Patcher,
    data: Data,
    log: Log,
    network: Network,
    processes: Processes,
    state: TrainState,
) -> None:
    """A picture of samples drawn with the first EMA: eight of each of the first ten classes.

    `network` has no memory of its own: the averaged weights are put together and stand in.
    """
    recipe, info = state.recipe, data.train.info
    averaged = state.averaged_weights() | dict(state.network.named_buffers())
    if not processes.is_first:
        return
    network.eval()

    def call(*args: Any, **kwargs: Any) -> Any:
        return functional_call(network, averaged, args, kwargs)

    labels = [label for label in range(min(info.num_classes, 10)) for _ in range(8)] or None
    num_samples = len(labels) if labels else 32
    conditions = draw_conditions(info, num_samples, labels, lambda: data.real)
    flow, precision = recipe.flow.resolved(info.shape), recipe.train.precision
    sampler = Sampler(call, patcher, flow, info, state.device, precision)
    batches = draw_all(sampler, num_samples, conditions, recipe.sample)
    samples = torch.cat(list(batches)).numpy()
    image = make_writer(recipe, info).draw(samples, info=info, labels=labels, columns=8)
    try:
        picture.save_png(image, folder.pictures / f"step-{state.step:08d}.png")
    except UserError as error:  # a run is worth more than a picture of it
        log.say(f"No picture of step {state.step}: {error}")
    log.picture(state.step, image)
