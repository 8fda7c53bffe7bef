"""The contract of a template: what a new sample is to be like, before it is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rawdiff.data.dataset import Array, DataInfo, Sample
from rawdiff.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """A sample to be drawn, in the data's own units and with the shapes of a `Sample`.

    `x` [C, …] are values that are known, NaN elsewhere; those in `keep` (bool [C, …]) come out
    exactly. `there` (bool [C, …]) says which values the sample has at all. None: nothing is known,
    nothing is kept, all are there. The other fields are those of a `Sample`; None: unknown.
    """

    x: Array | None = None
    keep: Array | None = None
    there: Array | None = None
    place: Array | None = None
    label: int | None = None
    scalars: Array | None = None
    context: Array | None = None


class RealSamples(Protocol):
    """Real samples that nothing is learned of, where there are any."""

    def __len__(self) -> int: ...

    def get_batch(self, positions: list[int]) -> list[Sample]: ...


class Template(Settings, ABC):
    """What new samples are to be like. Fields are the keys under `sample.template:`.

    A scaffold around a motif, a picture with a hole, chains of a given length.
    """

    @abstractmethod
    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        """Of sample number `index`, a pure function of it; `info` is that of the training data.

        `real` opens real samples, if some of them are needed. UserError if the template does not
        fit the data.
        """

    def placed(self, info: DataInfo) -> DataInfo:
        """How samples are written: `info` of the training data, but with coordinates of their own
        where a template says where they lie.
        """
        return info
