"""Post-hoc averages: a power average of any width, out of snapshots of a few that were tracked.

A power average is a weighted sum of the run's weights, and so is any sum of power averages. The
sum whose profile comes nearest to the wanted one is therefore near the wanted average, whatever
the weights were. (Karras et al. 2024, arXiv 2312.02696, section 3.2 and appendix C)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rawdiff.averages.ema import power_exponent
from rawdiff.averages.snapshots import Snapshot, snapshots
from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff.recipe import EMASettings
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import RunFolder

ROUGH = 0.05  # relative error of a profile; that of the weights is then about 1e-3 (docs/log.md)


@dataclass(frozen=True)
class Profile:
    """How much the weights of time t count in the power average of a width at a step.

        p(t) = (gamma + 1) t^gamma / step^(gamma + 1)   for 0 < t ≤ step, else 0

    Its integral from m - 1 to m is exactly what `EMA` gives to the weights of step m.
    """

    width: float
    step: int


@dataclass(frozen=True)
class Source:
    """A power average that is on the disk: in a snapshot, or in a checkpoint."""

    profile: Profile
    place: Snapshot | checkpoint.Checkpoint

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters by name, float32."""
        if isinstance(self.place, Snapshot):
            return self.place.tensors(self.profile.width)
        name = EMASettings(power=self.profile.width).name
        return iter(checkpoint.load_weights(self.place, name).items())


def inner_products(left: Sequence[Profile], right: Sequence[Profile]) -> Array:
    """∫ p q dt of each pair [L, R], in float64.

        (a + 1)(b + 1) / (a + b + 1) · (k / m)^(a + 1) (k / n)^(b + 1) / k,   k = min(m, n)

    for exponents a, b at steps m, n; in ratios, so that no power overflows.
    """
    a = np.array([power_exponent(profile.width) for profile in left])[:, None]
    b = np.array([power_exponent(profile.width) for profile in right])[None]
    m = np.array([profile.step for profile in left], dtype=np.float64)[:, None]
    n = np.array([profile.step for profile in right], dtype=np.float64)[None]
    k = np.minimum(m, n)
    return (a + 1) * (b + 1) / (a + b + 1) * (k / m) ** (a + 1) * (k / n) ** (b + 1) / k


def solve(sources: Sequence[Profile], target: Profile) -> tuple[Array, float]:
    """Coefficients c [K] of the nearest profile, and the relative error of its profile.

    Minimizes ∫ (sum c_i p_i - p)² dt among sums with sum c_i = 1. The condition is ours: then what
    the weights of all steps share, most of them, is exact. On a run it makes the error of the
    average up to ten times smaller (docs/log.md).
    """
    gram = inner_products(sources, sources)
    wanted = inner_products(sources, [target])[:, 0]
    scale = np.diag(gram) ** -0.5  # to profiles of norm 1: as well conditioned as it can be
    system = np.zeros((len(sources) + 1,) * 2)
    system[:-1, :-1] = gram * scale * scale[:, None]
    norm = float(inner_products([target], [target])[0, 0]) ** 0.5
    system[-1, :-1] = system[:-1, -1] = scale / scale.max()
    right = np.append(wanted * scale / norm, 1 / (scale.max() * norm))
    c = np.linalg.lstsq(system, right, rcond=1e-14)[0][:-1] * scale * norm
    residual = float(c @ gram @ c - 2 * c @ wanted) / norm**2 + 1
    return c, max(residual, 0.0) ** 0.5


def reconstruct(
    folder: RunFolder, width: float, step: int | None, report: Callable[[str], None]
) -> tuple[dict[str, Tensor], str, int]:
    """The power average of a width at a step (default: of the newest checkpoint), name and step.

    Float32, in memory of two sets of weights (three where a checkpoint stands in for a snapshot).
    Raises UserError where it cannot be had from what the run kept.
    """
    name, there = EMASettings(power=width).name, snapshots(folder)
    if not there:
        raise UserError(
            f"{folder.path} keeps no snapshots to make `{name}` from. Give "
            "`checkpoint.ema_every_steps` (a 20th of the steps) and two `power` averages in "
            "`train.ema` before training, or choose one of the averages that were tracked."
        )
    sources = _sources(folder, there, step, report)
    target = Profile(width, sources[-1].profile.step)
    if own := [source for source in sources if source.profile == target]:
        return dict(own[0].tensors()), name, target.step
    coefficients, error = solve([source.profile for source in sources], target)
    widths = sorted({source.profile.width for source in sources})
    text = f"{name} of step {target.step} is made from {len(sources)} averages of the run"
    if error > ROUGH:
        cure = "more snapshots" if len(widths) > 1 else "snapshots of two widths (here: one)"
        text += f"; its profile is {error:.1%} off, and {cure} would come nearer"
    report(f"{text}.")
    return combine(sources, coefficients), name, target.step


def _sources(
    folder: RunFolder,
    there: list[Snapshot],
    step: int | None,
    report: Callable[[str], None],
) -> list[Source]:
    """All power averages up to the step, which must be one of a snapshot or a checkpoint."""
    saved = {one.step for one in checkpoint.checkpoints(folder)}
    of_snapshot = {one.step: one for one in there}
    found = None
    if step not in of_snapshot and (saved or step is not None):
        if step is not None and step not in saved:
            steps = ", ".join(map(str, sorted(saved | of_snapshot.keys())))
            raise UserError(
                f"{folder.path} has neither a snapshot nor a checkpoint of step {step}; "
                f"there are: {steps}."
            )
        found = checkpoint.find_checkpoint(folder, step, report)
    if found is not None:
        step = found.step
    elif step is None:
        step = there[-1].step
    places: list[Snapshot | checkpoint.Checkpoint] = [one for one in there if one.step <= step]
    if not places:
        raise UserError(
            f"The first snapshot of {folder.path} is of step {there[0].step}: no average can be "
            f"made for step {step}. Choose a later step, or an average that was tracked."
        )
    if found is not None and step not in of_snapshot:
        places.append(found)
    return [
        Source(Profile(width, place.step), place)
        for place in places
        for width in (place.widths if isinstance(place, Snapshot) else there[-1].widths)
    ]


def combine(sources: Sequence[Source], coefficients: Array) -> dict[str, Tensor]:
    """sum c_i w_i, in float64, tensor after tensor."""
    total: dict[str, Tensor] = {}
    for source, c in zip(sources, coefficients.tolist(), strict=True):
        for name, tensor in source.tensors():
            if name not in total:
                total[name] = torch.zeros(tensor.shape, dtype=torch.float64)
            total[name].add_(tensor, alpha=c)
    return {name: total.pop(name).float() for name in list(total)}
