"""One step of training: the gradients of a batch, and the update that the guard lets through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.data.dataset import Batch
from rawdiff.data.loading import Share, run_batches
from rawdiff.errors import UserError
from rawdiff.parallel.apply import add_gradients_up, whole
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.train.objective import Objective
from rawdiff.train.state import StepSums, TrainState


@dataclass(frozen=True)
class Training:
    """The state of a run, and what moves it from step to step."""

    state: TrainState
    objective: Objective
    processes: Processes = ALONE

    def open_batches(self) -> Iterator[Batch]:
        """Endless batches from the state's place in the run on; of each, this process's share."""
        return self.batches_from(self.state.place)

    def batches_from(self, place: int) -> Iterator[Batch]:
        recipe = self.state.recipe
        return run_batches(
            self.objective.train,
            seed=recipe.seed,
            batch_size=recipe.train.batch_size,
            start=place,
            num_workers=recipe.train.num_workers,
            share=Share(self.processes.rank, self.processes.count),
        )

    def compute_gradients(self, batch: Batch, micro_batch_size: int | None = None) -> StepSums:
        """Gradients of one batch, and what the log keeps of it.

        In micro-batches, by default as the recipe says.
        """
        state, objective, train = self.state, self.objective, self.state.recipe.train
        # Normalized by the weight of the whole batch, however it is cut, masked or spread.
        weight = objective.weight(batch, self.processes)
        if weight <= 0:
            raise UserError(
                f"All values of the batch of step {state.step + 1} are missing or have weight 0: "
                "there is nothing to learn. Look at `data` (and its weights)."
            )
        sums = StepSums(objective.device, batch.num_damaged)
        state.network.train()
        micro_batches = batch.split(micro_batch_size or train.micro_batch_size or len(batch))
        for i, micro_batch in enumerate(micro_batches, start=1):
            prepared = objective.prepare(micro_batch)
            noised = objective.add_noise(prepared)
            errors = objective.errors(state.network, prepared, noised)
            loss = errors.total / weight
            last = i == len(micro_batches)
            add_gradients_up(state.network, state.recipe.parallel, now=last)
            torch.autograd.backward(loss)
            sums.add(loss.detach(), errors.per_sample, errors.t)

        self.processes.sum(sums.values)
        return sums

    def clip_gradients(self) -> Tensor:
        """Scale gradients down to the largest norm allowed; returns the norm before."""
        limit = self.state.recipe.train.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(
            self.state.network.parameters(), float("inf") if limit is None else limit
        )
        return whole(norm)

    def update(self, sums: StepSums, grad_norm: Tensor) -> None:
        """Move weights, averages and clock; if the guard refuses, the clock alone."""
        state = self.state
        taken = state.guard.judge(sums.loss, grad_norm)
        state.update(taken)
        state.window.add(sums, grad_norm, taken)
