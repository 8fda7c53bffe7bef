"""Do the data fit the noise? Known before the first step."""

from __future__ import annotations

import math

from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import Statistics
from rawdiff.flow.settings import REFERENCE_LENGTH, FlowSettings, auto_noise_scale
from rawdiff.warn.concern import Concern

FAR = 5.0  # times wider or narrower than 1, or as many spreads away from 0
TOO_LITTLE, TOO_MUCH = 1.9, 8.0  # times; smooth fields on coarse grids do well with 4


def spread(statistics: Statistics, info: DataInfo) -> Concern | None:
    """Of standardized data, which noise of spread 1 is made for; None where it is not known.

    A channel alone may be narrow, such as the density of a rare element.
    """
    measured = statistics.measured
    if measured is None:
        return None
    means = ((measured.mean - statistics.x.mean) / statistics.x.std).tolist()
    stds = (measured.std / statistics.x.std).tolist()
    narrow = max(stds) < 1 / FAR
    far = [
        f"{name} {mean:.3g} ± {std:.3g}"
        for name, mean, std in zip(info.channels, means, stds, strict=True)
        if narrow or std > FAR or abs(mean) > FAR
    ]
    if not far:
        return None
    more = f" and {len(far) - 3} channels more" if len(far) > 3 else ""
    return Concern(
        "spread",
        f"Standardized data are far from mean 0 and spread 1: {', '.join(far[:3])}{more}.",
        "Write `standardization: {mode: statistics}`, or, where all channels must share a scale, "
        "`mode: fixed` with a `mean` and `std` near those of the data (`rawdiff check` says them).",
    )


def noise_scale(flow: FlowSettings, info: DataInfo) -> Concern | None:
    """Noise that hides too little of a fine grid, or all of any grid.

    None where the noise follows the size, and where samples have a context, which shows what
    noise would have to hide.
    """
    if flow.noise_scale == "auto" or info.num_context_channels:
        return None
    sizes, found = info.shape[1:], flow.noise_scale
    fitting = auto_noise_scale(sizes)
    grid = " x ".join(map(str, sizes))
    if found * TOO_LITTLE < fitting and math.prod(sizes) > REFERENCE_LENGTH**2:
        return Concern(
            "noise scale",
            f"`flow.noise_scale` {found:g} hides little of a grid of {grid}: as much as 1 hides on "
            f"256 x 256 takes {fitting:.3g}.",
            "Write `flow.noise_scale: auto`, and look at whether large structures get better.",
        )
    if found > TOO_MUCH * max(fitting, 1.0):
        return Concern(
            "noise scale",
            f"`flow.noise_scale` {found:g} on a grid of {grid} is {found / max(fitting, 1.0):.3g} "
            "times what fits its size: most of the training goes to noise in which nothing is "
            "seen.",
            f"Write `flow.noise_scale: auto` ({fitting:.3g}) or 1.",
        )
    return None
