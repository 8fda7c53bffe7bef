"""All that a run carries from step to step, and therefore all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from rawdiff.averages.ema import EMA
from rawdiff.model.network import Network
from rawdiff.parallel.apply import all_whole
from rawdiff.recipe import Recipe
from rawdiff.train.guard import Guard
from rawdiff.train.optimizer import make_optimizer, take_step
from rawdiff.train.schedule import learning_rate

NUM_TIME_BINS = 5


class StepSums:
    """What a step adds to the window of the log: this process's part, until all are summed.

    `values` [2 + 2 bins], float64 on the device: damaged samples, loss, and for each bin of time
    the sum of mean errors and the number of samples. `per_sample` and `t` keep the mean errors of
    this process's samples and their times, a tensor for each micro-batch.
    """

    def __init__(self, device: torch.device, num_damaged: int) -> None:
        self.values = torch.zeros(2 + 2 * NUM_TIME_BINS, dtype=torch.float64, device=device)
        self.values[0] = num_damaged
        self.per_sample: list[Tensor] = []
        self.t: list[Tensor] = []

    def add(self, loss: Tensor, per_sample: Tensor, t: Tensor) -> None:
        """A micro-batch's part of the loss, and mean errors [B] of its samples at times t [B]."""
        self.values[1] += loss
        place = 2 + (t * NUM_TIME_BINS).long().clamp(0, NUM_TIME_BINS - 1)
        self.values.index_add_(0, place, per_sample.double())
        self.values.index_add_(0, place + NUM_TIME_BINS, torch.ones_like(per_sample).double())
        self.per_sample.append(per_sample)
        self.t.append(t)

    @property
    def damaged(self) -> Tensor:
        return self.values[0]

    @property
    def loss(self) -> Tensor:
        return self.values[1]

    @property
    def errors(self) -> Tensor:
        """All but the damaged samples."""
        return self.values[1:]


class Window:
    """Sums over the steps since the last line of the log, on the device; read only for a line.

    The same on all processes. Kept in the checkpoint, so that a run that was stopped logs what it
    would have logged.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(5 + 2 * NUM_TIME_BINS, dtype=torch.float64, device=device)

    def add(self, step: StepSums, grad_norm: Tensor, taken: Tensor) -> None:
        """Of a step that was not `taken` nothing counts but that, and its damaged samples."""
        one = torch.ones((), dtype=torch.float64, device=grad_norm.device)
        errors = torch.cat((torch.stack((one, grad_norm.double())), step.errors))
        counts = torch.stack((taken.logical_not().double(), step.damaged))
        self.sums += torch.cat((counts, torch.where(taken, errors, 0.0)))

    def read(self, *, start_anew: bool) -> dict[str, float]:
        """Means over the window; a line out of turn, at the end of a run, leaves it open.

        `loss` and `grad_norm` are missing if none of its steps was taken.
        """
        skipped, damaged, steps, grad_norm, loss, *bins = self.sums.tolist()
        values = {"loss": loss / steps, "grad_norm": grad_norm / steps} if steps else {}
        totals = zip(bins[:NUM_TIME_BINS], bins[NUM_TIME_BINS:], strict=True)
        for i, (total, count) in enumerate(totals):
            if count:
                low, high = i / NUM_TIME_BINS, (i + 1) / NUM_TIME_BINS
                values[f"loss/t_{low:.1f}-{high:.1f}"] = total / count
        if damaged:
            values["damaged_samples"] = damaged
        if skipped:
            values["skipped"] = skipped
        if start_anew:
            self.sums.zero_()
        return values


@dataclass
class TrainState:
    """Network, optimizer, averages, progress, the guard and the open window of the log.

    `jumped` counts the samples that the run left out when it went back, `rollbacks` how often.
    """

    recipe: Recipe
    network: Network
    optimizer: torch.optim.AdamW = field(init=False)
    emas: list[EMA] = field(init=False)
    window: Window = field(init=False)
    guard: Guard = field(init=False)
    step: int = 0
    jumped: int = 0
    rollbacks: int = 0

    def __post_init__(self) -> None:
        self.optimizer = make_optimizer(self.network, self.recipe.train)
        self.emas = [EMA(settings, self.network) for settings in self.recipe.train.ema]
        self.window = Window(self.device)
        self.guard = Guard(self.recipe.guard, self.device)

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def samples(self) -> int:
        """How many samples the run has seen: its clock."""
        return self.step * self.recipe.train.batch_size

    @property
    def place(self) -> int:
        """The place in the run of the next sample: what its order and noise are keyed by."""
        return self.samples + self.jumped

    def update(self, taken: Tensor) -> None:
        """One step of the optimizer and of the averages with the gradients that are there.

        One that is not `taken` (bool [], on the device) moves the clock and nothing else.
        """
        train = self.recipe.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, self.samples)
        take_step(self.optimizer, taken)
        self.optimizer.zero_grad()
        self.step += 1
        for ema in self.emas:
            ema.update(self.network, self.samples, train.batch_size, taken)

    def averaged_weights(self) -> dict[str, Tensor]:
        """Of the first EMA, or the network's own if it has none; whole on every process."""
        own = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        return all_whole(self.emas[0].weights if self.emas else own)

    def state_dict(self) -> dict[str, Any]:
        """As nested tensors, and nothing else; loading a checkpoint writes into them.

        Of the optimizer only its moments: its settings are the recipe's.
        """
        return {
            "model": self.network.state_dict(),
            "optimizer": get_optimizer_state_dict(self.network, self.optimizer)["state"],
            "ema": {ema.settings.name: ema.weights for ema in self.emas},
            "window": self.window.sums,
            "guard": self.guard.state_dict(),
            "step": torch.tensor(self.step),
            "jumped": torch.tensor(self.jumped),
            "rollbacks": torch.tensor(self.rollbacks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that was loaded into `state_dict()`."""
        self.network.load_state_dict(state["model"])
        optimizer = get_optimizer_state_dict(self.network, self.optimizer)
        optimizer["state"] = state["optimizer"]
        set_optimizer_state_dict(self.network, self.optimizer, optimizer)
        self.step, self.jumped = int(state["step"]), int(state["jumped"])
        self.rollbacks = int(state["rollbacks"])
