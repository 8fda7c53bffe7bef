"""Which evaluators score, and which scores they have: both are known before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Evaluator, FeatureEvaluator, Scorer, SeriesEvaluator
from rawdiff.plugins import build_plugin, load_plugin, plugins
from rawdiff.recipe import Recipe


def choose_evaluators(
    recipe: Recipe, metrics: Sequence[str] | None = None, info: DataInfo | None = None
) -> dict[str, Scorer]:
    """Those of the given names, else those that the recipe names, else all that run by default.

    The last are joined by those that the data, if `info` describes them, name as their own. Keys
    are the recipe's. UserError for a name that does not exist, with the nearest one, and for that
    of a single score.
    """
    keys = recipe.evaluate.evaluators
    names: Sequence[str]
    if metrics:
        names = list(dict.fromkeys(metrics))
    elif keys is not None:
        names = list(keys)
    else:
        found = (plugin.name for plugin in plugins("evaluators"))
        names = [name for name in found if load_plugin("evaluators", name).by_default]
        names += [name for name in (info.evaluators if info else ()) if name not in names]
    chosen = {name: (keys or {}).get(name, {}) | {"name": name} for name in names}
    for name in names:
        if "/" in name:
            whole = name.partition("/")[0]
            load_plugin("evaluators", whole)  # a misspelt one gets the nearest name
            raise UserError(
                f"`{name}` is no evaluator. Write `{whole}`: all its scores are given together."
            )
    evaluators = {name: build_plugin("evaluators", section) for name, section in chosen.items()}
    for name, evaluator in evaluators.items():
        if not isinstance(evaluator, Evaluator | FeatureEvaluator | SeriesEvaluator):
            raise UserError(
                f"Plug-in `{name}` in rawdiff.evaluators is neither an Evaluator, nor a "
                "FeatureEvaluator or SeriesEvaluator of rawdiff.evaluate.evaluator. Derive it "
                "from one of them."
            )
    return evaluators


def require_score(metric: str, evaluator: Scorer, info: DataInfo) -> None:
    """UserError if it is known that the evaluator has no score of this name, such as `fid/recall`.

    The error says which it has.
    """
    name, _, key = metric.partition("/")
    keys = evaluator.score_keys(info)
    if keys is None or key in keys:
        return
    there = ", ".join(f"{name}/{one}" if one else name for one in keys)
    raise UserError(f"There is no score `{metric}`; `{name}` has: {there}.")
