"""One set of weights with all that goes with them, in a folder for others: an export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from rawdiff.averages.weights import Weights, read_weights, write_weights
from rawdiff.exchange.card import CARD, model_card, scores_of
from rawdiff.files import require_new_folder, write_text
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import write_recipe
from rawdiff.run import Say
from rawdiff.saved.folder import DESCRIPTION, EXPORT_WEIGHTS, RunFolder
from rawdiff.tuned import choose
from rawdiff.version import __version__

CONFIG = "config.json"  # by which hubs know what a model is of
EXPORTED = (*DESCRIPTION, EXPORT_WEIGHTS, CARD, CONFIG, "scores.json")


def export(
    path: str | Path,
    out: Path,
    *,
    weights: str | None = None,
    step: int | None = None,
    licence: str | None = None,
    say: Say = print,
) -> Path:
    """One set of weights as safetensors, with all that is needed to load it, in a new folder.

    Sampling settings that were tuned become those of its recipe, but for a guide's weights. The
    folder's model card, README.md, names the `licence`, and the scores if these weights have some.
    """
    folder = RunFolder.open(path)
    require_new_folder(out)
    recipe, weights = choose(folder, weights, say)
    found = read_weights(folder, weights, step, say)
    out.mkdir(parents=True, exist_ok=True)
    write_export(out, folder, recipe, found, licence)
    say(f"{out} holds {EXPORT_WEIGHTS} ({found.name}), what is needed to load it, and {CARD}.")
    return out


def write_export(
    out: Path, folder: RunFolder, recipe: Recipe, weights: Weights, licence: str | None = None
) -> None:
    """Weights of a run or an export into the folder `out`, with all that goes with them."""
    recipe = recipe.model_copy(update={"sample": recipe.sample.model_copy(update={"guide": None})})
    for name in DESCRIPTION:
        if (folder.path / name).is_file():
            shutil.copyfile(folder.path / name, out / name)
    if recipe != folder.recipe():
        write_recipe(recipe, out / "recipe.yaml")
    if scores_of(folder, weights) is not None:
        shutil.copyfile(folder.scores, out / folder.scores.name)
    write_text(out / CONFIG, json.dumps({"library_name": "rawdiff", "version": __version__}))
    write_text(out / CARD, model_card(folder, recipe, weights, licence, out.name))
    write_weights(out, weights.tensors, weights.name, weights.step)
