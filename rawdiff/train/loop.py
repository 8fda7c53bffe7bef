"""The loop: read it from top to bottom to know what training is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.data.dataset import Batch
from rawdiff.errors import UserError
from rawdiff.parallel.apply import add_gradients_up, mesh_shape, whole
from rawdiff.parallel.processes import Agreement, Processes
from rawdiff.parallel.replicas import require_equal_replicas
from rawdiff.train import checkpoint
from rawdiff.train.averages import save_snapshot
from rawdiff.train.diagnosis import diagnose
from rawdiff.train.folder import RunFolder
from rawdiff.train.log import Log
from rawdiff.train.objective import Objective
from rawdiff.train.rollback import roll_back
from rawdiff.train.state import StepSums, TrainState
from rawdiff.train.stopping import StopSignal, TimeLimit
from rawdiff.train.watchdog import Watchdog


@dataclass(frozen=True)
class Loop:
    """One run from the step of its state to the last one, or until it is asked to stop."""

    state: TrainState
    objective: Objective
    open_batches: Callable[[int], Iterator[Batch]]
    """Endless batches from a place in the run on; of each, this process's share."""
    folder: RunFolder
    log: Log
    draw_picture: Callable[[TrainState], None]
    processes: Processes
    watchdog: Watchdog
    time_limit: TimeLimit
    """That of the first process counts."""

    def run(self) -> bool:
        """From step to step; every way out leads over a checkpoint. Whether it is the last one."""
        state, train, settings = self.state, self.state.recipe.train, self.state.recipe.checkpoint
        every, ema_every = settings.every_steps, settings.ema_every_steps
        agree = Agreement(self.processes)
        batches = self.open_batches(state.place)
        with StopSignal() as stop, self.watchdog:
            while True:
                self.watchdog.begins("data", state.step + 1)
                batch = self.log.timed(batches.__next__)
                self.watchdog.begins("update", state.step + 1)
                self.train_step(batch)
                self.log.advance(state.step)
                last = state.step == train.num_steps
                (stopping,) = agree(bool(stop) or self.is_time_over)
                logs = state.step % train.log_every == 0 or last
                saves = state.step % every == 0 or last or stopping
                if logs:
                    self.write_log()
                # Asked only where the device is waited for anyhow.
                if (logs or saves) and not stopping and state.guard.is_stuck():
                    self.roll_back()
                    batches = self.open_batches(state.place)
                    continue
                if train.picture_every and (state.step % train.picture_every == 0 or last):
                    self.watchdog.begins("picture", state.step)
                    self.draw_picture(state)
                if ema_every and (state.step % ema_every == 0 or last):
                    self.save_averages()  # first, so that no checkpoint lacks its snapshots
                if saves:
                    self.save()
                if last or stopping:
                    break
            agree.settle()
        if not last:
            reason = self.time_limit.reason if self.is_time_over else "another process"
            self.log.say(
                f"Stopped by {stop.received or reason} after step {state.step}, with a checkpoint; "
                "the same command continues."
            )
        return last

    @property
    def is_time_over(self) -> bool:
        return self.processes.is_first and self.time_limit.is_over

    def train_step(self, batch: Batch) -> None:
        """One update of the weights with one batch, if the guard lets it through."""
        state = self.state
        sums = self.compute_gradients(batch)
        grad_norm = self.clip_gradients()
        taken = state.guard.judge(sums.loss, grad_norm)
        state.update(taken)
        state.window.add(sums, grad_norm, taken)

    def compute_gradients(self, batch: Batch) -> StepSums:
        """Gradients of one batch, in micro-batches, and what the log keeps of it."""
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
        return sums

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
        if state.rollbacks:
            metrics["rollbacks"] = state.rollbacks
        self.log.write(state.step, metrics)

    def roll_back(self) -> None:
        """Go back and past the samples that made trouble; UserError if that was no help before."""
        state, processes = self.state, self.processes
        # A skipped step changes nothing, so it can be run again.
        batch = next(self.open_batches(state.place - state.recipe.train.batch_size))
        sums = self.compute_gradients(batch)
        diagnosis = diagnose(state, self.objective.train, batch, sums, processes)
        state.optimizer.zero_grad()
        roll_back(state, self.folder, diagnosis, processes, self.log.say)
        self.log.go_back(state.step)

    def save_averages(self) -> None:
        """A snapshot of the power averages, from which any width can be had later."""
        state = self.state
        size = state.recipe.train.batch_size
        save_snapshot(self.folder, state.emas, state.step, size, self.processes)

    def save(self) -> None:
        """A checkpoint."""
        state, settings = self.state, self.state.recipe.checkpoint
        self.watchdog.begins("save", state.step)
        content = state.state_dict()
        _, shard = mesh_shape(state.recipe.parallel, self.processes)
        require_equal_replicas(content, shard, self.processes)
        checkpoint.save(
            self.folder,
            content,
            state.step,
            self.processes,
            keep_last=settings.keep_last,
            keep_every=settings.keep_every_steps,
        )
