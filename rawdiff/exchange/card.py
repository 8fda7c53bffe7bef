"""The model card of an export: what the model makes, how good it is, and how it came about."""

from __future__ import annotations

import json
from typing import Any

import yaml

from rawdiff.averages.weights import Weights
from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import Statistics
from rawdiff.evaluate.report import GENERATED
from rawdiff.recipe import Recipe
from rawdiff.saved.folder import RunFolder
from rawdiff.version import __version__

CARD = "README.md"
MAX_CHANNELS = 40  # shown; data.json has all

CITATION = """```bibtex
@article{li2025jit,
  title   = {Back to Basics: Let Denoising Generative Models Denoise},
  author  = {Li, Tianhong and He, Kaiming},
  journal = {arXiv preprint arXiv:2511.13720},
  year    = {2025}
}
```"""


def scores_of(folder: RunFolder, weights: Weights) -> dict[str, Any] | None:
    """What `rawdiff eval` wrote of these weights; None where it scored others, or nothing."""
    if not folder.scores.is_file():
        return None
    found: dict[str, Any] = json.loads(folder.scores.read_text(encoding="utf-8"))
    origin = found.get("origin", {})
    alike = (origin.get("weights"), origin.get("step")) == (weights.name, weights.step)
    return found if alike else None


def model_card(
    folder: RunFolder, recipe: Recipe, weights: Weights, licence: str | None, name: str
) -> str:
    """Markdown with the metadata that hubs read; `folder` is what the weights are of."""
    metadata: dict[str, Any] = {"library_name": "rawdiff", "tags": ["rawdiff", "flow-matching"]}
    if licence is not None:
        metadata["license"] = licence
    info = folder.info()
    size = sum(tensor.numel() for tensor in weights.tensors.values())
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        f"# {name}",
        f"Generates samples of shape {list(info.shape)} ({_named(info.channels)}) in the units of "
        f"its data. Made with rawdiff {__version__}: {size:,} parameters, weights "
        f"`{weights.name}` of step {weights.step:,}, predicts {recipe.flow.prediction}.",
        _use(info),
        _data(folder, recipe, info, folder.statistics()),
        _scores(scores_of(folder, weights)),
        f"## Recipe\n\n{_environment(folder)}\n\n```yaml\n"
        f"{yaml.safe_dump(recipe.plain(), sort_keys=False)}```",
        _licence(licence),
        f"## Citation\n\nThe method is that of\n\n{CITATION}",
    ]
    return "\n\n".join(parts) + "\n"


def _use(info: DataInfo) -> str:
    label = ", label=0" if info.num_classes else ""
    if (info.place_names or info.sizes_vary) and info.stored_shape is None:
        label = ', template="given"'  # their labels, sizes and places are those of real samples
    told = (
        "Samples must be told what they are like; `help(model.sample)` says how.\n\n"
        if info.are_told
        else ""
    )
    return (
        "## Use\n\n"
        f"{told}```python\n"
        "import rawdiff\n\n"
        'model = rawdiff.load("FOLDER")  # this folder\n'
        f"samples = model.sample(4{label})\n"
        "```\n\n"
        "From a hub, as a module of torch (`pip install 'rawdiff[hub]'`):\n\n"
        "```python\n"
        "from rawdiff.exchange.hub import PretrainedModel\n\n"
        'model = PretrainedModel.from_pretrained("OWNER/NAME")\n'
        "```"
    )


def _data(folder: RunFolder, recipe: Recipe, info: DataInfo, statistics: Statistics) -> str:
    """Names, units, mean and spread of the training data, and what goes with a sample."""
    num = folder.num_train_samples()
    lines = [
        "## Data",
        "",
        f"Dataset `{recipe.plain()['data']['name']}`, "
        + ("training samples unknown." if num is None else f"{num:,} training samples."),
        "",
        "| channel | unit | mean | spread |",
        "|---|---|---|---|",
    ]
    moments = statistics.x
    units = info.units or ("",) * len(info.channels)
    rows = zip(info.channels, units, moments.mean.tolist(), moments.std.tolist(), strict=True)
    lines += [f"| {c} | {u} | {m:.5g} | {s:.5g} |" for c, u, m, s in [*rows][:MAX_CHANNELS]]
    if (more := len(info.channels) - MAX_CHANNELS) > 0:
        lines.append(f"| and {more} more, in `data.json` | | | |")
    for what, names in (("Classes", info.class_names), ("Scalars", info.scalar_names)):
        if names:
            lines += ["", f"{what}: {_named(names)}."]
    return "\n".join(lines)


def _scores(found: dict[str, Any] | None) -> str:
    if found is None:
        return "## Scores\n\nNone are known of these weights; `rawdiff eval` gives them."
    columns = list(dict.fromkeys(column for row in found["scores"].values() for column in row))
    lines = [
        "## Scores",
        "",
        _how_drawn(found),
        "",
        f"| score | {' | '.join(columns)} | meaning |",
        f"|---|{'---|' * (len(columns) + 1)}",
    ]
    for name, row in found["scores"].items():
        numbers = [f"{row[column]:.4g}" if column in row else "–" for column in columns]
        meaning = found["meanings"].get(name.partition("/")[0], "")
        lines.append(f"| {name} | {' | '.join(numbers)} | {meaning} |")
    return "\n".join(lines)


def _how_drawn(found: dict[str, Any]) -> str:
    drawn = found["origin"].get("sample", {})
    counts = sorted({count[GENERATED] for count in found["counts"].values() if GENERATED in count})
    text = f"Of {' or '.join(f'{count:,}' for count in counts) or 'no'} generated samples"
    shown = [f"{key} {drawn[key]}" for key in ("solver", "num_steps", "cfg_scale") if key in drawn]
    return f"{text}, drawn with {', '.join(shown)}." if shown else f"{text}."


def _environment(folder: RunFolder) -> str:
    """One line, as far as it is known."""
    found = folder.environment()
    device = found.get("gpu") or found.get("cpu") or "an unknown processor"
    return f"With torch {found.get('torch', 'of an unknown version')} on {device}."


def _licence(licence: str | None) -> str:
    if licence is None:
        return (
            "## Licence\n\nNot stated by whoever made this model (`rawdiff export --license NAME` "
            "does). The code of rawdiff is under Apache-2.0."
        )
    return f"## Licence\n\n{licence}. The code of rawdiff is under Apache-2.0."


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:MAX_CHANNELS])
    return shown if len(names) <= MAX_CHANNELS else f"{shown} and {len(names) - MAX_CHANNELS} more"
