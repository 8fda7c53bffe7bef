"""Forecasts of many steps: each draw starts from the states before it."""

from __future__ import annotations

from collections.abc import Callable, Generator, MutableMapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rawdiff.conditions import Conditions
from rawdiff.errors import UserError
from rawdiff.series import Question
from rawdiff_weather.axes import Fields
from rawdiff_weather.framing import Framing, Known
from rawdiff_weather.times import DAY, TimeAxis

States: TypeAlias = MutableMapping[int, Fields]
"""By step: [M, C, H, W]; step 0 is the init, those before it have negative numbers."""

YEAR_0 = -719_528 * DAY  # 0000-01-01 in seconds since 1970
MEMBER_BITS, HOP_BITS, MINUTE_BITS = 16, 16, 31


class Stage(NamedTuple):
    """One draw: `lead` steps on from the state of step `base`, the `hop`-th one starts from."""

    hop: int
    base: int
    lead: int

    @property
    def step(self) -> int:
        return self.base + self.lead


def stages(leads: tuple[int, ...], num_past: int, num_steps: int) -> list[Stage]:
    """All draws up to `num_steps`: all leads from one state, then on from the longest.

    Without known states there is one draw, at the init itself. UserError where a state that the
    next draw must know would never be drawn.
    """
    if not num_past:
        return [Stage(0, 0, 0)]
    longest = leads[-1]
    found = [
        Stage(hop, hop * longest, lead)
        for hop in range(-(-num_steps // longest))
        for lead in leads
        if hop * longest + lead <= num_steps
    ]
    if not found:
        raise UserError(
            f"This model forecasts {leads[0]} steps ahead, not {num_steps}. Ask for more."
        )
    drawn = {stage.step for stage in found}
    for stage in found:
        known = {stage.base - k for k in range(num_past)}
        if lacking := sorted(step for step in known - drawn if step > 0):
            raise UserError(
                f"A forecast of {num_steps} steps cannot be made of leads {list(leads)}: the draw "
                f"for step {stage.step} must know step {lacking[0]}, which no draw gives. Ask for "
                f"{longest} at most, or train with `step:` as long as the lead."
            )
    return found


def noise_index(init: TimeAxis, hop: int, members: range) -> Tensor:
    """[M], a number of its own for each init, hop and member: any of them can be drawn again.

    All leads from one state share their noise, so that they belong to one course of events
    (Andrae et al. 2025). UserError beyond years 0 to 4082, 65,536 hops or members.
    """
    minute = (int(init.seconds[0]) - YEAR_0) // 60
    sizes = {"hops": (hop, HOP_BITS), "members": (members.stop - 1, MEMBER_BITS)}
    for name, (number, bits) in {
        "minutes since the year 0": (minute, MINUTE_BITS),
        **sizes,
    }.items():
        if not 0 <= number < 1 << bits:
            raise UserError(
                f"{number:,} {name} are too many or too few; {1 << bits:,} can be told."
            )
    first = (minute << HOP_BITS | hop) << MEMBER_BITS
    return first + torch.arange(members.start, members.stop, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Course:
    """Some members from one init on; `init` is a time axis of that one time."""

    framing: Framing
    init: TimeAxis
    members: range

    def questions(
        self, todo: list[Stage], states: States, take: Callable[[Stage, Fields], None]
    ) -> Generator[Question, Tensor, None]:
        """Asks for one stage after another; `take` gets each state [M, C, H, W].

        `states` must have those that the first stage knows; those no longer needed are dropped.
        """
        for number, stage in enumerate(todo):
            past = self._past(stage, states)
            known = self.framing.known(past, self._all(stage.step), self._all(0))
            drawn = yield self._question(stage, known)
            predicted = self.framing.prediction(drawn.numpy(), known)
            state = self.framing.states(predicted, self.init.moved(stage.step))
            take(stage, state)
            states[stage.step] = state
            for step in self._forgotten(states, todo[number + 1 :]):
                del states[step]

    def _past(self, stage: Stage, states: States) -> Fields:
        """Anomalies [M, K, C, H, W] that are known, the newest first."""
        steps = [stage.base - k for k in range(self.framing.num_past)]
        if not steps:
            framing = self.framing
            grid = (len(framing.latitude), len(framing.longitude))
            return np.empty((len(self.members), 0, len(framing.channels), *grid), np.float32)
        return np.stack(
            [self.framing.anomalies(states[step], self.init.moved(step)) for step in steps], axis=1
        )

    def _all(self, step: int) -> TimeAxis:
        """The time of a step, once for each member."""
        return self.init.moved(step).take(np.zeros(len(self.members), np.int64))

    def _question(self, stage: Stage, known: Known) -> Question:
        scalars = self.framing.scalars(known.valid, np.full(len(self.members), stage.lead))
        context = self.framing.context(known)
        return Question(
            noise_index(self.init, stage.hop, self.members),
            Conditions(
                scalars=None if scalars is None else torch.from_numpy(scalars),
                context=None if context is None else torch.from_numpy(context),
            ),
        )

    def _forgotten(self, states: States, todo: list[Stage]) -> list[int]:
        needed = {stage.base - k for stage in todo for k in range(self.framing.num_past)}
        return [step for step in states if step not in needed]
