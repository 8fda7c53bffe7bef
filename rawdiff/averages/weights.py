"""Weights of a finished run or of an export, by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rawdiff.averages import posthoc
from rawdiff.averages.snapshots import snapshots
from rawdiff.errors import UserError
from rawdiff.recipe import Recipe, power_width
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import EXPORT_WEIGHTS, RunFolder


def _default_weights(folder: RunFolder) -> str:
    """What the recipe's `sample.weights` says, else the run's first EMA, else the model's own."""
    recipe = folder.recipe()
    if recipe.sample.weights is not None:
        return recipe.sample.weights
    return recipe.train.ema[0].name if recipe.train.ema else "model"


@dataclass(frozen=True)
class Weights:
    """Parameters by name, float32 on the CPU, and which they are: of an EMA, of a step."""

    tensors: dict[str, Tensor]
    name: str
    step: int


def read_weights(
    folder: RunFolder, weights: str | None, step: int | None, report: Callable[[str], None]
) -> Weights:
    """The weights of a run or an export. UserError where they are not there or damaged."""
    if folder.is_export:
        if weights is not None or step is not None:
            raise UserError(f"{folder.path} is an export: it holds one set of weights, no steps.")
        path = folder.path / EXPORT_WEIGHTS
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata()
                return Weights(load_file(path), facts["weights"], int(facts["step"]))
        except (SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: {error}.") from error
    name = weights or _default_weights(folder)
    if (width := _reconstructed_width(folder, name, step)) is not None:
        return Weights(*posthoc.reconstruct(folder, width, step, report))
    found = checkpoint.find_checkpoint(folder, step, report)
    if found is None:
        raise UserError(f"{folder.path} has no checkpoint yet; train it first, or wait for one.")
    return Weights(checkpoint.load_weights(found, name), name, found.step)


def available_weights(recipe: Recipe) -> tuple[str, ...]:
    """The sets of weights that a run of this recipe keeps: its EMAs, and the model's own."""
    return (*(ema.name for ema in recipe.train.ema), "model")


def write_weights(
    folder: Path, weights: dict[str, Tensor], name: str, step: int, **facts: str
) -> None:
    """Write the weights of an export, with their name, step and further `facts` in the header."""
    facts = {
        "format": "rawdiff",
        "weights": name,
        "step": str(step),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    } | facts
    save_file(weights, folder / EXPORT_WEIGHTS, metadata=facts)
    (folder / EXPORT_WEIGHTS).chmod(0o644)  # readable to others, as the files beside it


def _reconstructed_width(folder: RunFolder, name: str, step: int | None) -> float | None:
    """Of a power average that snapshots alone have at this step; None for other names."""
    try:
        width = power_width(name)
    except ValueError as error:
        raise UserError(f"{folder.path} has no weights `{name}`: {error}.") from error
    tracked = [ema.power for ema in folder.recipe().train.ema]
    if width is None or width not in tracked:
        return width
    saved = {one.step for one in checkpoint.checkpoints(folder)}
    only_snapshot = step not in saved and step in {one.step for one in snapshots(folder)}
    return width if only_snapshot else None


def take_over(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load weights into a network. UserError that names what does not fit."""
    require_fit(network, weights, source)
    network.load_state_dict(weights, strict=False)


def require_fit(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """UserError unless weights have the names and shapes of the network's parameters."""
    own = dict(network.named_parameters())
    missing, unknown = own.keys() - weights.keys(), weights.keys() - own.keys()
    shapes = {
        name: (tuple(weights[name].shape), tuple(own[name].shape))
        for name in own.keys() & weights.keys()
        if weights[name].shape != own[name].shape
    }
    if missing or unknown or shapes:
        name = min({*missing, *unknown, *shapes})
        what = (
            f"has shape {shapes[name][0]} there and {shapes[name][1]} here"
            if name in shapes
            else f"is only {'here' if name in missing else 'there'}"
        )
        raise UserError(
            f"The weights of {source} are of another model: `{name}` {what} "
            f"({len(missing) + len(unknown) + len(shapes)} tensors differ). Use its own recipe."
        )
