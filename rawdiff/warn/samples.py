"""Do samples show the borders of patches, or the training data?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rawdiff.warn.concern import Concern

SEAMS = 1.15  # times the jumps of real data
GROWTH = 1.1  # times the lowest before
COPIES = 0.02  # of the samples, beyond those of held-out data
NEAR = 0.5  # of the distance of held-out data
CURE_OF_SEAMS = (
    "Train longer, try smaller patches or a wider `model.bottleneck`, and draw with an EMA and "
    "more `sample.num_steps`."
)


class Seams(NamedTuple):
    """Jumps across borders of patches over those inside, of samples of a step and of real data."""

    step: int
    samples: float
    real: float

    @property
    def excess(self) -> float:
        return self.samples / max(self.real, 1e-6)


def growing_seams(course: Sequence[Seams]) -> Concern | None:
    """Of the pictures that a run drew, oldest first: the last has seams, and more than before."""
    if len(course) < 2 or course[-1].excess < SEAMS:
        return None
    last, lowest = course[-1], min(course[:-1], key=lambda seams: seams.excess)
    if last.excess < GROWTH * lowest.excess:
        return None
    return Concern(
        "seams",
        f"Seams between patches grow: jumps across their borders are {last.excess:.3g} times those "
        f"of real data at step {last.step:,}, {lowest.excess:.3g} times at step {lowest.step:,}.",
        CURE_OF_SEAMS,
    )


def seams(generated: float, real: float) -> Concern | None:
    """By the scores `seam` of generated and of real held-out samples."""
    if generated < SEAMS * real:
        return None
    return Concern(
        "seams",
        f"Seams between patches: the score `seam` is {generated:.3g}, {real:.3g} of real data.",
        CURE_OF_SEAMS,
    )


def memorization(
    distance: float, real_distance: float, copies: float, real_copies: float
) -> Concern | None:
    """By the scores `neighbours`, of generated and of real held-out samples."""
    found = []
    if copies > real_copies + COPIES:
        found.append(
            f"{copies:.1%} of the samples are copies of training samples ({real_copies:.1%} of "
            "real held-out ones are as near to one)"
        )
    if distance < NEAR * real_distance:
        found.append(
            f"samples lie {distance:.3g} from the nearest training sample, real held-out ones "
            f"{real_distance:.3g}"
        )
    if not found:
        return None
    return Concern(
        "memorization",
        f"The model repeats its training data: {'; '.join(found)}.",
        "Stop earlier (`rawdiff eval RUN --step …` scores a checkpoint), bring more data or "
        "augmentation, raise `model.dropout`, or take a smaller `model.width`.",
    )
