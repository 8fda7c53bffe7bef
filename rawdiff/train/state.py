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
from torch.func import functional_call

from rawdiff.model.network import Network
from rawdiff.recipe import Recipe, TrainSettings
from rawdiff.sampling import NetworkCall
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


class Window:
    """Sums over the steps since the last line of the log, on the device; read only for a line.

    Kept in the checkpoint, so that a run that was stopped logs what it would have logged.
    """

    NUM_SUMS = 4  # steps, loss, gradient norm, damaged samples

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(self.NUM_SUMS, dtype=torch.float64, device=device)
        self.bins = torch.zeros(2, NUM_TIME_BINS, dtype=torch.float64, device=device)

    def add_errors(self, per_sample: Tensor, t: Tensor) -> None:
        """Mean errors of samples [B] at times t [B], each to its bin of t."""
        place = (t * NUM_TIME_BINS).long().clamp(0, NUM_TIME_BINS - 1)
        self.bins[0].index_add_(0, place, per_sample.double())
        self.bins[1].index_add_(0, place, torch.ones_like(per_sample, dtype=torch.float64))

    def add_step(self, loss: Tensor, grad_norm: Tensor, num_damaged: int) -> None:
        one = torch.ones((), dtype=torch.float64, device=loss.device)
        damaged = torch.full_like(one, num_damaged)
        self.sums += torch.stack((one, loss.double(), grad_norm.double(), damaged))

    def read(self, *, start_anew: bool) -> dict[str, float]:
        """Means over the window; a line out of turn, at the end of a run, leaves it open."""
        steps, loss, grad_norm, damaged = self.sums.tolist()
        values = {"loss": loss / steps, "grad_norm": grad_norm / steps}
        for i, (total, count) in enumerate(self.bins.T.tolist()):
            if count:
                low, high = i / NUM_TIME_BINS, (i + 1) / NUM_TIME_BINS
                values[f"loss/t_{low:.1f}-{high:.1f}"] = total / count
        if damaged:
            values["damaged_samples"] = damaged
        if start_anew:
            self.sums.zero_()
            self.bins.zero_()
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

    def averaged_network(self) -> NetworkCall:
        """The network with the weights of its first EMA, or its own if it has none."""
        network = self.network.eval()
        weights = self.emas[0].weights if self.emas else {}
        return lambda *args, **kwargs: functional_call(network, weights, args, kwargs)

    def state_dict(self) -> dict[str, Any]:
        """As nested tensors, and nothing else; loading a checkpoint writes into them.

        Of the optimizer only its moments: its settings are the recipe's.
        """
        return {
            "model": self.network.state_dict(),
            "optimizer": get_optimizer_state_dict(self.network, self.optimizer)["state"],
            "ema": {ema.settings.name: ema.weights for ema in self.emas},
            "window": {"sums": self.window.sums, "bins": self.window.bins},
            "step": torch.tensor(self.step),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that was loaded into `state_dict()`."""
        self.network.load_state_dict(state["model"])
        optimizer = get_optimizer_state_dict(self.network, self.optimizer)
        optimizer["state"] = state["optimizer"]
        set_optimizer_state_dict(self.network, self.optimizer, optimizer)
        self.step = int(state["step"])
