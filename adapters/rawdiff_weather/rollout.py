"""Forecasts of many steps: each draw starts from the states before it."""

from __future__ import annotations

from collections.abc import Callable, Generator, MutableMapping
from dataclasses import dataclass, replace
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
    """One draw: `lead` steps on from the state of step `base`, the `hop`-th one starts from.

    It gives the states of `steps`: one, or as many as a sample has times.
    """

    hop: int
    base: int
    lead: int
    steps: range


def stages(
    leads: tuple[int, ...], num_past: int, num_steps: int | None, num_times: int = 1
) -> list[Stage]:
    """All draws up to `num_steps`: all leads from one state, then on from the longest.

    None: as far as one state goes, or ten draws of a single lead. Without known states there is
    one draw, at the init itself. UserError where a state that the next draw must know would never
    be drawn, and where no draw ends at `num_steps`.
    """
    if not num_past:
        if num_steps is not None:
            raise UserError(
                "This model knows no states before (`past: 0`): it draws the init itself, and "
                "goes no steps on. Leave out the number of steps."
            )
        return [Stage(0, 0, 0, range(num_times))]
    longest = leads[-1] + num_times - 1
    if num_steps is None:
        goes_on = len(leads) == 1 and (num_past <= num_times or leads[0] == 1)
        num_steps = 10 * longest if goes_on else longest
    found = [
        Stage(hop, base, lead, range(base + lead, min(base + lead + num_times, num_steps + 1)))
        for hop, base in enumerate(range(0, num_steps, longest))
        for lead in leads
        if base + lead <= num_steps
    ]
    drawn = {step for stage in found for step in stage.steps}
    if num_steps not in drawn:
        below = f"{max(drawn)} or " if drawn else ""
        above = (
            num_steps
            - num_steps % longest
            + next(lead for lead in leads if lead >= num_steps % longest)
        )
        raise UserError(
            f"This model forecasts {', '.join(map(str, leads))} steps ahead at once, so no draw "
            f"ends at step {num_steps}. Ask for {below}{above} steps."
        )
    for stage in found:
        known = {stage.base - k for k in range(num_past)}
        if lacking := sorted(step for step in known - drawn if step > 0):
            raise UserError(
                f"A forecast of {num_steps} steps cannot be made of leads {list(leads)}: the draw "
                f"for step {stage.steps[0]} must know step {lacking[0]}, which no draw gives. Ask "
                f"for {longest} at most, or train with `step:` as long as the lead."
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
        self, todo: list[Stage], states: States, take: Callable[[int, Fields], None]
    ) -> Generator[Question, Tensor, None]:
        """Asks for one stage after another; `take` gets each step and its state [M, C, H, W].

        `states` must have those that the first stage knows; those no longer needed are dropped.
        """
        for number, stage in enumerate(todo):
            first = stage.base + stage.lead
            valid = [self._all(first + i) for i in range(self.framing.shape.num_times)]
            known = self.framing.known(self._past(stage, states), _alternate(valid), self._all(0))
            drawn = yield self._question(stage, known)
            predicted = self.framing.prediction(drawn.numpy(), known)
            for step in stage.steps:
                anomaly = predicted[:, step - first]
                states[step] = self.framing.states(anomaly, self.init.moved(step))
                take(step, states[step])
            for step in self._forgotten(states, todo[number + 1 :]):
                del states[step]

    def _past(self, stage: Stage, states: States) -> Fields:
        """Anomalies [M, K, C, H, W] that are known, the newest first."""
        framing = self.framing
        steps = [stage.base - k for k in range(framing.num_past)]
        if not steps:
            grid = (len(framing.latitude), len(framing.longitude))
            return np.empty((len(self.members), 0, len(framing.shape.channels), *grid), np.float32)
        known = [framing.anomalies(states[step], self.init.moved(step)) for step in steps]
        return np.stack(known, axis=1)

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


def _alternate(axes: list[TimeAxis]) -> TimeAxis:
    """Of T axes [M] one [M * T]: all times of the first member, then of the next."""
    return replace(axes[0], seconds=np.stack([axis.seconds for axis in axes], axis=1).ravel())
