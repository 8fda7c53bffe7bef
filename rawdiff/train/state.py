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

from rawdiff.model.network import Network
from rawdiff.parallel.apply import all_whole
from rawdiff.recipe import Recipe, TrainSettings
from rawdiff.train.ema import EMA
from rawdiff.train.schedule import learning_rate

NUM_TIME_BINS = 5


def make_optimizer(network: Network, train: TrainSettings) -> torch.optim.AdamW:
    """AdamW in float32; weight decay acts on matrices alone."""
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    vectors = [p for p in network.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": train.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=train.betas, fused=True)


class StepSums:
    """What a step adds to the window of the log: this process's part, until all are summed.

    `values` [2 + 2 bins], float64 on the device: loss, damaged samples, and for each bin of time
    the sum of mean errors and the number of samples.
    """

    def __init__(self, device: torch.device, num_damaged: int) -> None:
        self.values = torch.zeros(2 + 2 * NUM_TIME_BINS, dtype=torch.float64, device=device)
        self.values[1] = num_damaged

    def add(self, loss: Tensor, per_sample: Tensor, t: Tensor) -> None:
        """A micro-batch's part of the loss, and mean errors [B] of its samples at times t [B]."""
        self.values[0] += loss
        place = 2 + (t * NUM_TIME_BINS).long().clamp(0, NUM_TIME_BINS - 1)
        self.values.index_add_(0, place, per_sample.double())
        self.values.index_add_(0, place + NUM_TIME_BINS, torch.ones_like(per_sample).double())

    @property
    def loss(self) -> Tensor:
        return self.values[0]


class Window:
    """Sums over the steps since the last line of the log, on the device; read only for a line.

    The same on all processes. Kept in the checkpoint, so that a run that was stopped logs what it
    would have logged.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4 + 2 * NUM_TIME_BINS, dtype=torch.float64, device=device)

    def add(self, step: StepSums, grad_norm: Tensor) -> None:
        one = torch.ones((), dtype=torch.float64, device=grad_norm.device)
        self.sums += torch.cat((torch.stack((one, grad_norm.double())), step.values))

    def read(self, *, start_anew: bool) -> dict[str, float]:
        """Means over the window; a line out of turn, at the end of a run, leaves it open."""
        steps, grad_norm, loss, damaged, *bins = self.sums.tolist()
        values = {"loss": loss / steps, "grad_norm": grad_norm / steps}
        totals = zip(bins[:NUM_TIME_BINS], bins[NUM_TIME_BINS:], strict=True)
        for i, (total, count) in enumerate(totals):
            if count:
                low, high = i / NUM_TIME_BINS, (i + 1) / NUM_TIME_BINS
                values[f"loss/t_{low:.1f}-{high:.1f}"] = total / count
        if damaged:
            values["damaged_samples"] = damaged
        if start_anew:
            self.sums.zero_()
        return values


@dataclass
class TrainState:
    """Network, optimizer, averages, progress and the open window of the log."""

    recipe: Recipe
    network: Network
    optimizer: torch.optim.AdamW = field(init=False)
    emas: list[EMA] = field(init=False)
    window: Window = field(init=False)
    step: int = 0

    def __post_init__(self) -> None:
        self.optimizer = make_optimizer(self.network, self.recipe.train)
        self.emas = [EMA(settings, self.network) for settings in self.recipe.train.ema]
        self.window = Window(self.device)

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def samples(self) -> int:
        """How many samples the run has seen: its clock."""
        return self.step * self.recipe.train.batch_size

    def update(self) -> None:
        """One step of the optimizer and of the averages with the gradients that are there."""
        train = self.recipe.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, self.samples)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        for ema in self.emas:
            ema.update(self.network, self.samples, train.batch_size)

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
            "step": torch.tensor(self.step),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that was loaded into `state_dict()`."""
        self.network.load_state_dict(state["model"])
        optimizer = get_optimizer_state_dict(self.network, self.optimizer)
        optimizer["state"] = state["optimizer"]
        set_optimizer_state_dict(self.network, self.optimizer, optimizer)
        self.step = int(state["step"])
