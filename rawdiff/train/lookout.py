"""Warnings while a run goes: what looks wrong is said once, with what to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import Statistics
from rawdiff.recipe import Recipe
from rawdiff.warn.averages import average
from rawdiff.warn.concern import Concern
from rawdiff.warn.data import noise_scale, spread
from rawdiff.warn.loss import ENOUGH_SAMPLES, one_bin
from rawdiff.warn.samples import Seams, growing_seams


class Lookout:
    """Sees what a run writes, and says each kind of concern once."""

    def __init__(self, recipe: Recipe, say: Callable[[str], None]) -> None:
        self._recipe, self._say = recipe, say
        self._said: set[str] = set()
        self._lines: list[Mapping[str, float]] = []
        self._seams: list[Seams] = []

    def begin(
        self,
        info: DataInfo,
        statistics: Statistics,
        lines: Sequence[Mapping[str, float]],
        seams: Sequence[Seams],
    ) -> None:
        """What is known before the first step; `lines` and `seams` are what was seen before."""
        self._lines, self._seams = list(lines), list(seams)
        self._tell(spread(statistics, info))
        self._tell(noise_scale(self._recipe.flow, info))
        self._tell(average(self._recipe, self._recipe.train.num_steps))

    def see(self, line: Mapping[str, float]) -> None:
        """A line of the log; those of later steps, which a run that went back lost, are dropped."""
        first = line["samples"] - 2 * ENOUGH_SAMPLES  # older ones are not needed
        kept = [one for one in self._lines if first < one["samples"] < line["samples"]]
        self._lines = [*kept, line]
        self._tell(one_bin(self._lines, self._recipe.flow, self._recipe.train.num_steps))

    def see_seams(self, seams: Seams) -> None:
        """Of a picture that was drawn."""
        self._seams = [*(one for one in self._seams if one.step < seams.step), seams]
        self._tell(growing_seams(self._seams))

    def _tell(self, concern: Concern | None) -> None:
        if concern is not None and concern.name not in self._said:
            self._said.add(concern.name)
            self._say(str(concern))
