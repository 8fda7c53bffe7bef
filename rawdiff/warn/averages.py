"""Is the average of the weights too short or too long for the run?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rawdiff.recipe import EMASettings, Recipe, power_width
from rawdiff.warn.concern import Concern

SHORTEST, LONGEST = 0.002, 0.25  # relative to the run; 0.05 to 0.2 is usual
MODEL = "model"  # the weights themselves


def relative_width(ema: EMASettings, num_steps: int) -> float:
    """How far back the average looks, as a share of a run of `num_steps`.

    That is the spread of its weights over time: `power`, or 1 / (1 - decay) steps.
    """
    if ema.power is not None:
        return ema.power
    assert ema.decay is not None
    return 1 / ((1 - ema.decay) * num_steps)


def average(recipe: Recipe, num_steps: int) -> Concern | None:
    """Of the average that samples are drawn with, in a run of so many steps."""
    name = recipe.sample.weights or (recipe.train.ema[0].name if recipe.train.ema else MODEL)
    ema = next((one for one in recipe.train.ema if one.name == name), None)
    if ema is None or num_steps < 1:
        return None
    width = relative_width(ema, num_steps)
    cure = "Write `train.ema: [{power: 0.05}, {power: 0.1}]`, whose width follows the run."
    if width > LONGEST:
        far = f"{width:.3g} of" if width < 10 else f"{width:,.0f} times"
        text = f"looks back over {far} the run of {num_steps:,} steps"
        if ema.decay is not None:
            text += f"; {ema.decay**num_steps:.1%} of it are still the first weights"
        return Concern("average", f"The average `{name}` is too long: it {text}.", cure)
    if width < SHORTEST:
        text = f"it looks back over {width:.2g} of the run of {num_steps:,} steps"
        return Concern("average", f"The average `{name}` is too short: {text}.", cure)
    return None


def tuned_average(rows: Sequence[Mapping[str, str]], metric: str, num_steps: int) -> Concern | None:
    """Of a table of `rawdiff tune`, the best row first: is the best average the last one tried?"""
    best: dict[str, str] = {}
    for row in rows:
        if "weights" in row:
            best.setdefault(row["weights"], row[metric])
    widths = {name: width for name in best if (width := _width(name, num_steps)) is not None}
    if len(widths) < 2:
        return None
    name, *others = best
    if name not in widths:
        return None
    tried = f"{metric} {best[name]}, against {best[others[0]]} with {others[0]}"
    if widths[name] == min(widths.values()):
        also = "" if name == MODEL else ", and `model`, which is none"
        return Concern(
            "average",
            f"The averages are too long: the shortest that was tried, `{name}`, samples best "
            f"({tried}).",
            f"Try shorter ones with `rawdiff tune --grid weights=…`{also}; the learning rate at "
            "the end may be low enough to need none.",
        )
    if widths[name] == max(widths.values()):
        return Concern(
            "average",
            f"The averages are too short: the longest that was tried, `{name}`, samples best "
            f"({tried}).",
            "Try longer ones: with `checkpoint.ema_every_steps` any width up to 0.28 can be had "
            "after training (`sample.weights=power_0.2`).",
        )
    return None


def _width(name: str, num_steps: int) -> float | None:
    """Of an average by its name; 0 of the weights themselves; None of what is no average."""
    if name == MODEL:
        return 0.0
    try:
        if name.startswith("decay_"):
            return relative_width(EMASettings(decay=float(name[6:])), num_steps)
        return power_width(name)
    except ValueError:
        return None
