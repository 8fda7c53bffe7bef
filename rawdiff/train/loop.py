"""The loop: read it from top to bottom to know what training is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.data.dataset import Batch
from rawdiff.errors import UserError
from rawdiff.parallel.apply import add_gradients_up, whole
from rawdiff.parallel.processes import ALONE, Agreement, Processes
from rawdiff.train import checkpoint
from rawdiff.train.averages import save_snapshot
from rawdiff.train.folder import RunFolder
from rawdiff.train.log import Log
from rawdiff.train.objective import Objective
from rawdiff.train.state import StepSums, TrainState
from rawdiff.train.stopping import StopSignal


@dataclass(frozen=True)
class Loop:
    """One run from the step of its state to the last one, or until it is asked to stop."""

    state: TrainState
    objective: Objective
    batches: Iterator[Batch]
    folder: RunFolder
    log: Log
    draw_picture: Callable[[TrainState], None]
    processes: Processes = ALONE

    def run(self) -> None:
        """From step to step; every way out leads over a checkpoint."""
        state, train, settings = self.state, self.state.recipe.train, self.state.recipe.checkpoint
        every, ema_every = settings.every_steps, settings.ema_every_steps
        agree = Agreement(self.processes)
        first_step = state.step
        with StopSignal() as stop:
            while True:
                self.train_step()
                self.log.advance(state.step)
                if state.step == first_step + 1:  # what is slow once is over
                    self.processes.limit_waiting(state.recipe.parallel.timeout_minutes)
                last = state.step == train.num_steps
                (stopping,) = agree(bool(stop))
                if state.step % train.log_every == 0 or last:
                    self.write_log()
                if train.picture_every and (state.step % train.picture_every == 0 or last):
                    self.draw_picture(state)
                if ema_every and (state.step % ema_every == 0 or last):
                    self.save_averages()  # first, so that no checkpoint lacks its snapshots
                if state.step % every == 0 or last or stopping:
                    self.save()
                if last or stopping:
                    break
        agree.settle()
        if not last:
            self.log.say(
                f"Stopped by {stop.received or 'another process'} after step {state.step}, with a "
                "checkpoint; the same command continues."
            )

    def train_step(self) -> None:
        """One update of the weights with one batch, in micro-batches."""
        state, objective, train = self.state, self.objective, self.state.recipe.train
        batch = self.log.timed(lambda: next(self.batches))
        # Normalized by the weight of the whole batch, however it is cut, masked or spread.
        weight = objective.weight(batch, self.processes)
        if weight <= 0:
            raise UserError(
                f"All values of the batch of step {state.step + 1} are missing or have weight 0: "
                "there is nothing to learn. Look at `data` (and its weights)."
            )
        sums = StepSums(objective.device, batch.num_damaged)
        state.network.train()
        micro_batches = batch.split(train.micro_batch_size or len(batch))
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
        grad_norm = self.clip_gradients()
        state.update()
        state.window.add(sums, grad_norm)

    def clip_gradients(self) -> Tensor:
        """Scale gradients down to the largest norm allowed; returns the norm before."""
        limit = self.state.recipe.train.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(
            self.state.network.parameters(), float("inf") if limit is None else limit
        )
        return whole(norm)

    def write_log(self) -> None:
        state = self.state
        metrics = state.window.read(start_anew=state.step % state.recipe.train.log_every == 0)
        self.require_finite(metrics["loss"], metrics["grad_norm"])
        self.log.write(self.state.step, metrics)

    def save_averages(self) -> None:
        """A snapshot of the power averages, from which any width can be had later."""
        state = self.state
        self.require_finite_window()
        size = state.recipe.train.batch_size
        save_snapshot(self.folder, state.emas, state.step, size, self.processes)

    def save(self) -> None:
        """A checkpoint, unless the weights have become useless."""
        state, settings = self.state, self.state.recipe.checkpoint
        self.require_finite_window()
        checkpoint.save(
            self.folder,
            state.state_dict(),
            state.step,
            self.processes,
            keep_last=settings.keep_last,
            keep_every=settings.keep_every_steps,
        )

    def require_finite_window(self) -> None:
        _, grad_norm, loss, *_ = self.state.window.sums.tolist()
        self.require_finite(loss, grad_norm)

    def require_finite(self, loss: float, grad_norm: float) -> None:
        if not (torch.tensor([loss, grad_norm]).isfinite().all()):
            raise UserError(
                f"The loss or its gradient is no longer finite at step {self.state.step} (loss "
                f"{loss}, gradient norm {grad_norm}). No checkpoint was written since. Lower "
                "`train.learning_rate`, set `train.clip_norm`, or look for wrong values in the "
                "data with `rawdiff check`; then continue from the last checkpoint in a new "
                "`run_dir` with `train.init_from`."
            )
