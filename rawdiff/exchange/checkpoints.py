"""Foreign checkpoints in, as ordinary exports; runs and exports out, as foreign checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch

from rawdiff.assemble import describe_info, make_network, make_patcher
from rawdiff.averages.weights import (
    available_weights,
    read_weights,
    require_fit,
    write_weights,
)
from rawdiff.errors import UserError
from rawdiff.exchange.foreign import Format, Incoming, Outgoing, Tensors
from rawdiff.files import require_new_folder, write_text
from rawdiff.plugins import plugin_name
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import parse_recipe, write_recipe
from rawdiff.run import Say
from rawdiff.saved.environment import environment_json
from rawdiff.saved.folder import RunFolder
from rawdiff.tuned import choose


def import_model(form: Format, path: str | Path, out: Path, *, say: Say = print) -> Path:
    """A foreign checkpoint as an export in the new folder `out`, which it returns.

    `rawdiff.load`, `sample`, `eval` and `train.init_from` take it. Raises UserError, with nothing
    written, if the file cannot be read safely or does not make a whole model.
    """
    path, out = Path(path).expanduser(), out.expanduser()
    require_new_folder(out)
    found = form.read(path)
    content = found.recipe | {"run_dir": f"runs/{out.name}-trained"}
    recipe = parse_recipe(content, f"of {path}")
    _require_whole(found, recipe, path)
    out.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(out)
    write_recipe(recipe, out / "recipe.yaml")
    write_text(out / "data.json", describe_info(found.info, num_train_samples=None))
    write_text(out / "environment.json", environment_json())
    found.statistics.save(folder.statistics_file)
    facts = {"source": path.name, "source_format": plugin_name("formats", type(form))}
    write_weights(out, found.tensors, found.weights, found.step, **facts)
    say(found.summary)
    for note in found.notes:
        say(note)
    say(f"{out} holds its weights `{found.weights}`. Next: `rawdiff sample {out}`.")
    return out


def _require_whole(found: Incoming, recipe: Recipe, path: Path) -> None:
    """UserError unless the weights are exactly those of the network that the recipe describes."""
    cpu = torch.device("cpu")
    patcher = make_patcher(recipe, found.info, found.statistics, cpu)
    require_fit(make_network(recipe, found.info, patcher), found.tensors, str(path))


def export_model(
    form: Format,
    path: str | Path,
    out: Path,
    *,
    weights: str | None = None,
    step: int | None = None,
    say: Say = print,
) -> Path:
    """A run or an export as a foreign checkpoint in the new file `out`, which it returns.

    With `weights`, and of an export, the one set of weights stands for all that the format holds.
    Sampling settings that were tuned are those that are written.
    Raises UserError, with nothing written, if the format cannot express the model.
    """
    folder, out = RunFolder.open(path), out.expanduser()
    if out.exists():
        what = (
            f"a folder; give a file, such as {out}/checkpoint-last.pth"
            if out.is_dir()
            else ("there already; give another file")
        )
        raise UserError(f"{out} is {what}.")
    recipe, chosen = choose(folder, weights, say)
    found = read_weights(folder, chosen, step, say)
    names: tuple[str, ...] = (found.name,)
    if weights is None and not folder.is_export and not form.one_set:
        names = tuple(dict.fromkeys((found.name, *available_weights(recipe))))

    def read(name: str) -> Tensors:
        if name == found.name:
            return found.tensors
        return read_weights(folder, name, found.step, say).tensors

    num_train_samples = folder.num_train_samples()
    num_epochs = (
        found.step * recipe.train.batch_size // num_train_samples if num_train_samples else 0
    )
    form.write(out, Outgoing(recipe, folder.info(), folder.statistics(), names, read, num_epochs))
    say(f"{out} holds the weights of {folder.path} ({', '.join(names)}).")
    return out
