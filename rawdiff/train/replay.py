"""One step of a run again, from the checkpoint before it, for a suspected fault.

The run itself is not touched. What is found there is compared with what its log and its next
checkpoint say, and the step's gradients are computed twice.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rawdiff.assemble import describe_data, open_data, require_same_data
from rawdiff.data.dataset import Batch
from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.model.network import Network
from rawdiff.parallel.apply import local, named_tensors
from rawdiff.parallel.processes import Processes, join_processes
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import load_recipe
from rawdiff.saved import checkpoint
from rawdiff.saved.checkpoint import Checkpoint
from rawdiff.saved.folder import RunFolder
from rawdiff.train.diagnosis import Diagnosis, diagnose, without_nan
from rawdiff.train.log import read_metrics
from rawdiff.train.rollback import pass_trouble, read_rollbacks
from rawdiff.train.same_run import FREE_KEYS, require_same_run
from rawdiff.train.setup import first_weights, set_up
from rawdiff.train.state import StepSums
from rawdiff.train.step import Training

BOUND_KEYS = ("guard", "train.num_steps", "train.log_every")
"""Free when a run goes on, but they would change what happened in its steps or its log."""

ROUNDING = 1e-4  # of a metric: other devices, processes and micro-batches add in another order

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Compared:
    """A metric of a line of the log: what the log says, and what came out now."""

    step: int
    name: str
    logged: float
    now: float

    @property
    def difference(self) -> float:
        """Relative to the larger one; 0 for equal bits, infinite where one is no number."""
        if self.logged == self.now:
            return 0.0
        difference = abs(self.logged - self.now) / max(abs(self.logged), abs(self.now))
        return difference if math.isfinite(difference) else math.inf


@dataclass(frozen=True)
class Replay:
    """What was seen of step `step`, after the steps from `from_step` on were run again.

    `diagnosis` has its gradients, whole, before they were clipped. `compared` are lines of the log
    on the way and of the step. `unrepeatable` are parameters whose gradients differed between two
    computations in a row, `unlike_checkpoint` tensors that are not those of the run's own
    checkpoint of this step; None if there is none.
    """

    step: int
    from_step: int
    diagnosis: Diagnosis
    block_norms: dict[str, float]
    compared: list[Compared]
    unrepeatable: list[str]
    unlike_checkpoint: list[str] | None

    @property
    def taken(self) -> bool:
        """Whether the guard let the step through."""
        return self.diagnosis.harmless_when_run_again

    @property
    def first_difference(self) -> Compared | None:
        """The earliest metric that rounding does not explain."""
        return next((one for one in self.compared if one.difference > ROUNDING), None)

    def verdict(self) -> str:
        """What it points to, in a few sentences."""
        if self.unrepeatable:
            names = ", ".join(self.unrepeatable[:3])
            return (
                f"Computed twice in a row, the gradients of {len(self.unrepeatable)} parameters "
                f"differ ({names}, …): some kernels of GPUs add in changing order, or this machine "
                "is faulty. Compare another machine."
            )
        if (found := self.first_difference) is not None:
            return (
                f"The log has another `{found.name}` at step {found.step}: {found.logged:.6g}, and "
                f"{found.now:.6g} now. The machine of then or this one miscalculates, or data or "
                "code were changed since. Replay on another machine, and an earlier step."
            )
        told = max((one.step for one in self.compared), default=self.from_step)
        if told < self.step and self.unlike_checkpoint is None:
            return (
                f"Neither the log nor a checkpoint tells of step {self.step}: up to step {told} "
                "all is as it was, and two computations of the step were equal."
            )
        equal = not self.unlike_checkpoint and all(one.difference == 0 for one in self.compared)
        same = "equals" if equal else "agrees within rounding with"
        cause = "" if self.taken else f" {self.diagnosis.cause()}"
        return (
            f"What came out {same} what the run left: the step follows from its weights and "
            f"samples, and no machine is to be suspected.{cause}"
        )

    def plain(self) -> dict[str, Any]:
        """All of it for a JSON file."""
        return without_nan({**asdict(self), "taken": self.taken, "verdict": self.verdict()})


def replay(
    run: str | Path,
    step: int,
    overrides: Sequence[str] = (),
    *,
    say: Say = print,
    progress: Progress | None = None,
) -> Replay:
    """Run a step of a run again; writes `replays/step-….json` there and changes nothing else.

    `overrides` may change the device, the micro-batch and whatever else leaves the run the same.
    Called by all processes, where there are several.
    Raises UserError if the run has no such step, or if its data or recipe are others now.
    """
    folder = RunFolder.open(run)
    if folder.is_export:
        raise UserError(f"{run} is an export, which has no steps; give the folder of a run.")
    recipe = load_recipe(folder.path / "recipe.yaml", overrides)
    require_same_run(
        folder.recipe(),
        recipe,
        f"A step of {run} cannot be replayed with",
        "Leave these away.",
        free=[key for key in FREE_KEYS if key not in BOUND_KEYS],
    )
    last = _last_step(folder)
    if not 1 <= step <= last:
        raise UserError(f"{run} has come to step {last:,}, as far as it tells; {step} is none.")
    device = choose_device(recipe.train.device)
    with join_processes(on_gpu=device.type == "cuda") as processes:
        say = processes.only_first(say)
        training = _begin(folder, recipe, step, device, processes, say)
        again = _Again(training, folder)
        again.run_before(step, progress if processes.is_first else None)
        found = again.look()
        path = folder.replays / f"step-{step:08d}.json"
        say(processes.from_first(lambda: _write(path, found)))
    return found


def _last_step(folder: RunFolder) -> int:
    """The last one that may have been run: before the line of the log that is not there."""
    recipe = folder.recipe()
    logged = max((int(line["step"]) for line in read_metrics(folder.metrics)), default=0)
    saved = max((one.step for one in checkpoint.checkpoints(folder)), default=0)
    following = (logged // recipe.train.log_every + 1) * recipe.train.log_every - 1
    return min(max(following, saved), recipe.train.num_steps)


def _begin(
    folder: RunFolder,
    recipe: Recipe,
    step: int,
    device: torch.device,
    processes: Processes,
    say: Say,
) -> Training:
    """The state of the newest whole checkpoint before the step, or of the beginning."""
    found = processes.from_first(lambda: _checkpoint_before(folder, step, say))
    with processes.first_before_others():
        data = open_data(recipe)
    require_same_data(folder.data_description(), describe_data(data), folder.path)
    first = None if found is not None else functools.partial(first_weights, recipe, say)
    training = set_up(recipe, data, folder.statistics(), device, processes, first)
    state = training.state
    if found is not None:
        state.load_state_dict(checkpoint.load(found, state.state_dict()))
    origin = f"its checkpoint of step {state.step}" if found else "its beginning"
    between = step - 1 - state.step
    say(f"Step {step} of {folder.path} again, from {origin}; {between} steps lie between.")
    return training


def _checkpoint_before(folder: RunFolder, step: int, say: Say) -> Checkpoint | None:
    for found in reversed(checkpoint.checkpoints(folder)):
        if found.step < step:
            if (damage := found.damage()) is None:
                return found
            say(f"Checkpoint {found.path} is damaged ({damage}); it is not used.")
    return None


class _Again:
    """The steps of a run once more, beside its log."""

    def __init__(self, training: Training, folder: RunFolder) -> None:
        self.training, self.state, self.folder = training, training.state, folder
        self.from_step = self.state.step
        self.lines = {line["step"]: line for line in read_metrics(folder.metrics)}
        self.rollbacks = read_rollbacks(folder)
        self.compared: list[Compared] = []
        self._batches: Iterator[Batch] | None = None

    def _next_batch(self) -> Batch:
        """That of the next step; where the run went back to this one, the samples it took then."""
        place = self.state.place
        passed = [i for i, one in enumerate(self.rollbacks, 1) if one.to_step <= self.state.step]
        pass_trouble(self.state, self.rollbacks[: max(passed, default=0)])
        if self._batches is None or self.state.place != place:
            self._batches = self.training.open_batches()
        return next(self._batches)

    def run_before(self, step: int, progress: Progress | None) -> None:
        """Until this step is the next one."""
        num_steps = step - 1 - self.state.step
        for i in range(num_steps):
            self._update(self.training.compute_gradients(self._next_batch()))
            if progress:
                progress(i + 1, num_steps)

    def _update(self, sums: StepSums) -> None:
        self.training.update(sums, self.training.clip_gradients())
        log_every = self.state.recipe.train.log_every
        line, ends = self.lines.get(self.state.step), self.state.step % log_every == 0
        now = self.state.window.read(start_anew=ends) if line or ends else {}
        if line:
            names = [*now, *(name for name in ("loss", "skipped") if name in line.keys() - now)]
            self.compared += [
                Compared(self.state.step, name, line.get(name, 0.0), now.get(name, 0.0))
                for name in names
            ]

    def look(self) -> Replay:
        """The next step, with all that can be seen of it."""
        training, state = self.training, self.state
        batch = self._next_batch()
        training.compute_gradients(batch)
        first = {name: gradient.clone() for name, gradient in _gradients(training)}
        state.optimizer.zero_grad()
        sums = training.compute_gradients(batch)
        differ = [name for name, now in _gradients(training) if not _same_bits(first[name], now)]
        diagnosis = replace(diagnose(training, batch, sums), step=state.step + 1)
        self._update(sums)
        return Replay(
            step=state.step,
            from_step=self.from_step,
            diagnosis=diagnosis,
            block_norms=_by_block(diagnosis.gradient_norms, state.network),
            compared=self.compared,
            unrepeatable=_in_any(differ, training.processes),
            unlike_checkpoint=self._unlike_checkpoint(),
        )

    def _unlike_checkpoint(self) -> list[str] | None:
        """Tensors of the state that are other ones in the checkpoint of this step."""
        state, processes = self.state, self.training.processes
        there = [one for one in checkpoint.checkpoints(self.folder) if one.step == state.step]
        if not processes.from_first(lambda: bool(there) and there[0].damage() is None):
            return None
        content = state.state_dict()
        own = {name: local(tensor).clone() for name, tensor in named_tensors(content).items()}
        saved = named_tensors(checkpoint.load(there[0], content)).items()
        differ = [name for name, tensor in saved if not _same_bits(own[name], local(tensor))]
        return _in_any(differ, processes)


def _gradients(training: Training) -> list[tuple[str, Tensor]]:
    """This process's part of each."""
    return [
        (name, local(parameter.grad))
        for name, parameter in training.state.network.named_parameters()
        if parameter.grad is not None
    ]


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal also where both are NaN, and 0 is not -0."""
    return torch.equal(*(t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)))


def _in_any(names: list[str], processes: Processes) -> list[str]:
    return sorted({name for part in processes.gather(names) for name in part})


def _by_block(norms: dict[str, float], network: Network) -> dict[str, float]:
    """Norms of the gradients of each unit of the network, and of what lies around them."""
    units = {name for name, module in network.named_modules() if module in set(network.units)}
    sums: dict[str, float] = {}
    for name, norm in norms.items():
        parts = name.split(".")
        prefixes = [".".join(parts[:i]) for i in range(1, len(parts))]
        block = next((prefix for prefix in prefixes if prefix in units), parts[0])
        sums[block] = sums.get(block, 0.0) + norm**2
    return {block: math.sqrt(total) for block, total in sums.items()}


def _write(path: Path, found: Replay) -> str:
    """Where all of it is; what was found is shown even if that cannot be written."""
    try:
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(found.plain(), indent=1, allow_nan=False))
    except (OSError, UserError) as error:
        return f"Not written: {error}"
    return f"All of it: {path}"
