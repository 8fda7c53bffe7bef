"""From a recipe and its data to what can be trained, on every process alike."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rawdiff.assemble import Data, make_network, make_patcher, materialize
from rawdiff.averages.weights import read_weights, take_over
from rawdiff.data.statistics import Statistics
from rawdiff.model.network import Network
from rawdiff.parallel.apply import mesh_shape, parallelize, require_gatherable
from rawdiff.parallel.batch import share_batch
from rawdiff.parallel.processes import Processes
from rawdiff.recipe import Recipe
from rawdiff.saved.folder import RunFolder
from rawdiff.train.objective import Objective
from rawdiff.train.state import TrainState
from rawdiff.train.step import Training


def set_up(
    recipe: Recipe,
    data: Data,
    statistics: Statistics,
    device: torch.device,
    processes: Processes,
    first_weights: Callable[[Network], None] | None = None,
) -> Training:
    """A training before its first step; without `first_weights` a checkpoint is to give them.

    Each process fills the whole network, so that the weights do not depend on how it is cut.
    """
    patcher = make_patcher(recipe, data.train.info, statistics, device)
    network = materialize(make_network(recipe, data.train.info, patcher), device)
    if first_weights is not None:
        first_weights(network)
    parallelize(network, recipe.parallel, processes, device)
    objective = Objective(recipe, patcher, data.train, device)
    return Training(TrainState(recipe, network), objective, processes)


def require_startable(recipe: Recipe, device: torch.device, processes: Processes) -> None:
    """UserError where the recipe cannot be spread over these processes."""
    share_batch(recipe.train.batch_size, recipe.train.micro_batch_size, processes.count)
    mesh_shape(recipe.parallel, processes)
    require_gatherable(recipe.parallel, processes.count, recipe.train.precision, device.type)


def first_weights(recipe: Recipe, say: Callable[[str], None], network: Network) -> None:
    """Those that a run begins with: of its seed, or of the model that it starts from."""
    network.initialize(recipe.seed)
    if recipe.train.init_from is not None:
        source = RunFolder.open(recipe.train.init_from)
        take_over(network, read_weights(source, None, None, say).tensors, str(source.path))
        say(f"Begins with the weights of {source.path}.")
