"""Sampling settings that `rawdiff tune` found best: a run keeps them beside its recipe.

They are laid over the recipe's `sample:` wherever samples are drawn, under explicit settings.
Training never reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from rawdiff.errors import UserError
from rawdiff.explain import explain
from rawdiff.files import write_text
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import apply_override, merge, parse_recipe, read_yaml
from rawdiff.sample_settings import SampleSettings
from rawdiff.saved.folder import RunFolder
from rawdiff.settings import Settings

HEAD = "# Written by `rawdiff tune`. Delete this file to sample as recipe.yaml says.\n"


class Tuned(Settings):
    """Keys of `sample:`, and the score that they reached."""

    sample: dict[str, Any]
    metric: str
    score: float
    oracle: float | None = None
    num_samples: int
    step: int | None
    """None for an export."""


def write_tuned(folder: RunFolder, tuned: Tuned) -> None:
    content = yaml.safe_dump(tuned.model_dump(mode="json"), sort_keys=False)
    write_text(folder.tuned, HEAD + content)


def read_tuned(folder: RunFolder) -> Tuned | None:
    """None where the run was not tuned. UserError if the file is damaged."""
    if not folder.tuned.is_file():
        return None
    try:
        return Tuned(**read_yaml(folder.tuned))
    except ValidationError as error:
        problems = "; ".join(explain(error, Tuned))
        raise UserError(
            f"{folder.tuned} is damaged ({problems}). Delete it, or run `rawdiff tune` again."
        ) from error


def explicit(settings: SampleSettings) -> list[str]:
    """Overrides of all keys, which leave nothing to settings that were tuned."""
    plain = settings.model_dump(mode="json")
    return [f"sample.{key}={json.dumps(value)}" for key, value in plain.items()]


def choose(
    folder: RunFolder, weights: str | None, say: Callable[[str], None]
) -> tuple[Recipe, str | None]:
    """The recipe with its tuned settings, and which weights to read: the caller's, or else its.

    None stands for the only ones that an export has, or a run's default.
    """
    recipe = tuned_recipe(folder, (), say, () if weights is None else ("weights",))
    if weights is None and not folder.is_export:
        weights = recipe.sample.weights
    return recipe, weights


def tuned_recipe(
    folder: RunFolder,
    overrides: Sequence[str],
    say: Callable[[str], None],
    decided: Collection[str] = (),
) -> Recipe:
    """The run's recipe, the tuned settings over it, and `key=value` over both.

    `decided` names keys of `sample:` that the caller sets otherwise. What is used of the tuned
    settings is said.
    """
    content, tuned = folder.recipe().plain(), read_tuned(folder)
    given: dict[str, Any] = {}
    for override in overrides:
        given = apply_override(given, override)
    explicit = {*decided, *(given.get("sample") or {})}
    if tuned:
        used = {key: value for key, value in tuned.sample.items() if key not in explicit}
        content = merge(content, {"sample": used})
        if used:
            shown = ", ".join(f"{key}={value}" for key, value in used.items())
            of_step = "" if tuned.step is None else f" of step {tuned.step}"
            say(
                f"Sampling settings tuned by {tuned.metric} ({tuned.score:.4g} with "
                f"{tuned.num_samples:,} samples{of_step}): {shown}."
            )
    for override in overrides:
        content = apply_override(content, override)
    return parse_recipe(content, str(folder.path))
