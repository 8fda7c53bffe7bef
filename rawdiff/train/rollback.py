"""Back to an earlier checkpoint when too many steps in a row were skipped, and past their samples.

RUN/rollbacks.json is written before anything is changed: a crash at any moment neither loses count
nor continues where the trouble was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rawdiff.averages.snapshots import drop_snapshots
from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.parallel.processes import Processes
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import RunFolder
from rawdiff.saved.publish import delete
from rawdiff.train.diagnosis import Diagnosis
from rawdiff.train.log import read_metrics
from rawdiff.train.state import TrainState


@dataclass(frozen=True)
class Rollback:
    """One return. The run goes on after `to_step` with the samples from `next_place` on.

    `lost_lines` of the log are those of the steps that do not count any more. `done`: nothing of
    them is left in the folder.
    """

    from_step: int
    to_step: int
    next_place: int
    skipped_in_a_row: int
    lost_lines: list[dict[str, Any]]
    done: bool = False


def read_rollbacks(folder: RunFolder) -> list[Rollback]:
    """All of a run, oldest first. UserError if the file is damaged."""
    try:
        content = json.loads(folder.rollbacks.read_text(encoding="utf-8"))
        return [Rollback(**one) for one in content]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder.rollbacks} cannot be read ({error}). Restore it from a copy; without it the "
            "run would meet the samples again that it left out."
        ) from error


def _write(folder: RunFolder, rollbacks: list[Rollback]) -> None:
    write_text(folder.rollbacks, json.dumps([asdict(one) for one in rollbacks], indent=1))


def choose_checkpoint(state: TrainState, folder: RunFolder) -> checkpoint.Checkpoint | None:
    """The newest permanent one from before the trouble, else the oldest one; None without any."""
    begin = state.step - int(state.guard.in_a_row)
    every = state.recipe.checkpoint.keep_every_steps
    there = checkpoint.checkpoints(folder)
    before = [one for one in there if one.step <= begin]
    permanent = [one for one in before if every and one.step % every == 0]
    candidates = (*reversed(permanent), *before, *there)
    return next((one for one in candidates if one.damage() is None), None)


def roll_back(
    state: TrainState,
    folder: RunFolder,
    diagnosis: Diagnosis,
    processes: Processes,
    say: Callable[[str], None],
) -> None:
    """Take the state back, and tell it which samples to leave out; the diagnosis is written down.

    Raises UserError if the run went back too often already, or has no checkpoint.
    """
    processes.from_first(lambda: diagnosis.write(folder))
    path = None
    if state.rollbacks < state.recipe.guard.max_rollbacks:
        path = processes.from_first(lambda: _begin(state, folder))
    if path is None:
        there = checkpoint.checkpoints(folder)
        if state.rollbacks:
            tried = f"Going back {state.rollbacks} times did not help."
        else:
            tried = "There is no checkpoint to go back to, or `guard.max_rollbacks` is 0."
        again = "tries again from the last checkpoint" if there else "begins anew"
        raise UserError(
            f"{diagnosis} {folder.diagnosis} has each sample and gradient. {tried} The same "
            f"command {again}, also with other keys of `guard`; for other changes begin a new "
            "`run_dir` with `train.init_from`."
        )
    from_step = state.step
    found = checkpoint.Checkpoint(path)
    state.load_state_dict(checkpoint.load(found, state.state_dict()))
    processes.from_first(lambda: finish_rollback(folder))
    pass_trouble(state, processes.from_first(lambda: read_rollbacks(folder)))
    say(
        f"Rolled back from step {from_step} to step {state.step}; goes on with other samples, from "
        f"number {state.place} of the run on ({folder.rollbacks.name} keeps the lost lines of the "
        f"log, {folder.diagnosis.name} has the last skipped step)."
    )


def _begin(state: TrainState, folder: RunFolder) -> Path | None:
    """Write down what is going to happen; returns the checkpoint to go back to."""
    found = choose_checkpoint(state, folder)
    if found is None:
        return None
    lost = [line for line in read_metrics(folder.metrics) if line["step"] > found.step]
    in_a_row = int(state.guard.in_a_row)
    new = Rollback(state.step, found.step, state.place, in_a_row, lost)
    _write(folder, [*read_rollbacks(folder)[: state.rollbacks], new])
    return found.path


def finish_rollback(folder: RunFolder) -> None:
    """Delete what the last rollback left behind, unless that was done; also after a crash."""
    rollbacks = read_rollbacks(folder)
    if not rollbacks or rollbacks[-1].done:
        return
    for one in checkpoint.checkpoints(folder):
        if one.step > rollbacks[-1].to_step:
            delete(one.path)
    drop_snapshots(folder, after=rollbacks[-1].to_step)
    _write(folder, [*rollbacks[:-1], replace(rollbacks[-1], done=True)])


def pass_trouble(state: TrainState, rollbacks: list[Rollback]) -> None:
    """Give a state of a checkpoint from before the last rollback what that rollback decided."""
    if state.rollbacks < len(rollbacks):
        state.jumped = rollbacks[-1].next_place - state.samples
        state.rollbacks = len(rollbacks)
        state.guard.in_a_row.zero_()
