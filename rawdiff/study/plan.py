"""What a study will do, looked at before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rawdiff.assemble import (
    Data,
    describe_data,
    make_network,
    make_patcher,
    open_data,
    require_same_data,
)
from rawdiff.data.statistics import fixed
from rawdiff.errors import UserError
from rawdiff.evaluate.choose import choose_evaluators, require_score
from rawdiff.plugins import plugins
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import RunFolder
from rawdiff.study.cells import Cell, GridKey
from rawdiff.train.same_run import FREE_KEYS, differences

BUDGET_KEYS = ("train.num_steps", "train.batch_size", "seed", "data", "holdout")


@dataclass(frozen=True)
class Planned:
    """A cell with the data that it trains on and the size of its network."""

    cell: Cell
    data: Data
    num_parameters: int
    num_patches: int
    patch_dim: int


def look(cells: Sequence[Cell], metric: str | None) -> list[Planned]:
    """Open the data of all cells and build their networks without memory.

    Raises UserError that names the cell which could not be trained, sampled and scored, or whose
    folder holds another run.
    """
    opened: dict[str, Data] = {}
    planned = []
    for cell in cells:
        try:
            planned.append(_look_at(cell, opened))
            _require_metric(planned[-1], metric)
            _require_continues(planned[-1])
        except UserError as error:
            raise UserError(f"The cell {cell} cannot be used: {error}") from error
    return planned


def _look_at(cell: Cell, opened: dict[str, Data]) -> Planned:
    recipe = cell.recipe
    if recipe.holdout is None:
        raise UserError(
            "a study compares scores beside those of real held-out data, and the recipe holds none "
            "out. Add `holdout: {fraction: 0.1}`."
        )
    plain = recipe.plain()
    source = json.dumps([plain["data"], plain["holdout"], recipe.seed], sort_keys=True)
    if source not in opened:
        opened[source] = open_data(recipe)
    data = opened[source]
    info = data.train.info
    statistics = fixed(0, 1, info.shape, num_context_channels=info.num_context_channels)
    patcher = make_patcher(recipe, info, statistics, torch.device("cpu"))
    network = make_network(recipe, info, patcher)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    return Planned(cell, data, num_parameters, patcher.grid.num_patches, patcher.patch_dim)


def _require_metric(planned: Planned, metric: str | None) -> None:
    """UserError unless the evaluator of that score runs and, as far as one can tell, has it.

    The evaluator's name alone stands for its first score.
    """
    evaluators = choose_evaluators(planned.cell.recipe)
    names = list(evaluators)
    name, _, key = (metric or names[0]).partition("/")
    if name in names:
        if metric and key:
            require_score(metric, evaluators[name], planned.data.train.info)
        return
    exists = name in (plugin.name for plugin in plugins("evaluators"))
    cure = f" To have it, add `evaluate.evaluators.{name}={{}}` to the command." if exists else ""
    raise UserError(f"`--metric {metric}` is not scored; there are: {', '.join(names)}.{cure}")


def _require_continues(planned: Planned) -> None:
    """UserError where the cell's folder holds a run that this recipe cannot continue."""
    cell, folder = planned.cell, RunFolder(planned.cell.run)
    there = checkpoint.checkpoints(folder)
    if not there:
        return
    changes = differences(RunFolder(there[-1].path).recipe(), cell.recipe)
    if changes:
        lines = "\n".join(f"  - {change}" for change in changes)
        raise UserError(
            f"{cell.run} was trained with another recipe:\n{lines}\n"
            "Continue with the old values, or choose another folder with `--out`."
        )
    num_steps = cell.recipe.train.num_steps
    if there[-1].step > num_steps:
        raise UserError(
            f"{cell.run} is at step {there[-1].step} already, beyond `train.num_steps: "
            f"{num_steps}`. Choose another folder with `--out`."
        )
    description = RunFolder(there[-1].path).data_description()
    require_same_data(description, describe_data(planned.data), cell.run)


def remarks(grid: Sequence[GridKey], cells: Sequence[Cell]) -> list[str]:
    """What makes cells less comparable than they look, or trains the same thing twice."""
    found = [
        f"Cells differ in `{key}`: they do not have the same budget."
        for key in BUDGET_KEYS
        if len({json.dumps(_value(cell, key), sort_keys=True) for cell in cells}) > 1
    ]
    for one in grid:
        free = any(one.key == key or one.key.startswith(f"{key}.") for key in FREE_KEYS)
        if free and one.key not in BUDGET_KEYS and len(one.values) > 1:
            found.append(
                f"`{one.key}` changes nothing in training: each of its cells trains the same "
                "weights again."
            )
    return found


def _value(cell: Cell, key: str) -> object:
    value = cell.recipe.plain()
    for part in key.split("."):
        value = value[part]
    return value
