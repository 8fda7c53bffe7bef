"""Which times make a sample: those that are predicted, and those that are known before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rawdiff.errors import WrongDataError
from rawdiff_weather.axes import Ints
from rawdiff_weather.background import Background
from rawdiff_weather.times import TimeAxis


class Windows(NamedTuple):
    """Of each sample without its member: `lead` [n] in steps, and indices into the plan's times.

    `predicted` [n, T] are the times of a sample, `known` [n, past] those before, the newest first.
    """

    lead: Ints
    predicted: Ints
    known: Ints


def find_windows(
    times: TimeAxis,
    leads: tuple[int, ...],
    num_times: int,
    num_past: int,
    background: Background | None,
) -> Windows:
    """One lead after another; those with a gap are left out. WrongDataError if none is left."""
    parts = []
    for lead in leads:
        predicted = np.stack([times.later(i) for i in range(num_times)], axis=1)
        before = [times.later(-lead - k) for k in range(num_past)]
        known = np.stack(before, axis=1) if before else np.empty((len(times), 0), np.int64)
        whole = (predicted >= 0).all(axis=1) & (known >= 0).all(axis=1)
        if background is not None:
            init = times.take(known[:, 0] if num_past else predicted[:, 0])
            for places in predicted.T:
                whole &= background.has(times.take(places), init)
        parts.append(Windows(np.full(whole.sum(), lead), predicted[whole], known[whole]))
    found = Windows(*map(np.concatenate, zip(*parts, strict=True)))
    if not len(found.lead):
        raise WrongDataError(
            f"There is no window of {num_past} states and one {leads[0]} steps later among the "
            f"{len(times)} times from {times.text(0)} to {times.text(len(times) - 1)}"
            f"{' with a background' if background else ''}. Give a longer `time`, a smaller "
            "`past` or `lead`, or another `step`."
        )
    return found
