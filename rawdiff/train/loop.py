"""The loop: read it from top to bottom to know what training is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rawdiff.averages.snapshots import save_snapshot
from rawdiff.data.dataset import Batch
from rawdiff.parallel.apply import mesh_shape
from rawdiff.parallel.processes import Agreement, Processes
from rawdiff.parallel.replicas import require_equal_replicas
from rawdiff.saved.folder import RunFolder
from rawdiff.saved.saving import Saver
from rawdiff.train.compile_check import check_compiled
from rawdiff.train.diagnosis import diagnose
from rawdiff.train.log import Log
from rawdiff.train.lookout import Lookout
from rawdiff.train.rollback import roll_back
from rawdiff.train.state import TrainState
from rawdiff.train.step import Training
from rawdiff.train.stopping import StopSignal, TimeLimit
from rawdiff.train.watchdog import Watchdog


@dataclass(frozen=True)
class Loop:
    """One run from the step of its state to the last one, or until it is asked to stop."""

    training: Training
    folder: RunFolder
    log: Log
    saver: Saver
    draw_picture: Callable[[], None]
    watchdog: Watchdog
    time_limit: TimeLimit
    """That of the first process counts."""
    lookout: Lookout

    @property
    def state(self) -> TrainState:
        return self.training.state

    @property
    def processes(self) -> Processes:
        return self.training.processes

    def run(self) -> bool:
        """From step to step; every way out leads over a checkpoint. Whether it is the last one."""
        state, train, saver = self.state, self.state.recipe.train, self.saver
        ema_every = state.recipe.checkpoint.ema_every_steps
        agree = Agreement(self.processes)
        batches, checked = self.training.open_batches(), False
        with StopSignal() as stop, self.watchdog:
            while True:
                self.watchdog.begins("data", state.step + 1)
                batch = self.log.timed(batches.__next__)
                self.watchdog.begins("update", state.step + 1)
                if not checked:
                    check_compiled(self.training, batch)
                    checked = True
                self.train_step(batch)
                self.log.advance(state.step)
                last = state.step == train.num_steps
                stopping, failed = agree(bool(stop) or self.is_time_over, saver.failed)
                if failed:
                    saver.finish()
                logs = state.step % train.log_every == 0 or last
                saves = saver.due(state.step) or last or stopping
                if logs:
                    self.write_log()
                # Asked only where the device is waited for anyhow.
                if (logs or saves) and not stopping and state.guard.is_stuck():
                    self.roll_back()
                    batches = self.training.open_batches()
                    continue
                if train.picture_every and (state.step % train.picture_every == 0 or last):
                    self.watchdog.begins("picture", state.step)
                    self.draw_picture()
                if ema_every and (state.step % ema_every == 0 or last):
                    self.save_averages()  # first, so that no checkpoint lacks its snapshots
                if saves:
                    self.save()
                if last or stopping:
                    break
            agree.settle()
            saver.finish()
            signals = self.processes.gather(stop.received)
        if not last:
            self.log.say(
                f"Stopped by {self.why_stopped(signals)} after step {state.step}, with a "
                "checkpoint; the same command continues."
            )
        return last

    def why_stopped(self, signals: list[str | None]) -> str:
        """The first of the signals that the processes received, or the time limit."""
        for rank, received in enumerate(signals):
            if received:
                where = f" to process {rank} of {len(signals)}" if len(signals) > 1 else ""
                return f"{received}{where}"
        return self.time_limit.reason

    @property
    def is_time_over(self) -> bool:
        return self.processes.is_first and self.time_limit.is_over

    def train_step(self, batch: Batch) -> None:
        """One update of the weights with one batch, if the guard lets it through."""
        sums = self.training.compute_gradients(batch)
        grad_norm = self.training.clip_gradients()
        self.saver.wait_until_staged()  # until here a save may still read the state
        self.training.update(sums, grad_norm)

    def write_log(self) -> None:
        state = self.state
        metrics = state.window.read(start_anew=state.step % state.recipe.train.log_every == 0)
        if state.rollbacks:
            metrics["rollbacks"] = state.rollbacks
        line = self.log.write(state.step, metrics)
        self.lookout.see(line)

    def roll_back(self) -> None:
        """Go back and past the samples that made trouble; UserError if that was no help before."""
        state, training = self.state, self.training
        self.saver.finish()
        # A skipped step changes nothing, so it can be run again.
        batch = next(training.batches_from(state.place - state.recipe.train.batch_size))
        diagnosis = diagnose(training, batch, training.compute_gradients(batch))
        state.optimizer.zero_grad()
        roll_back(state, self.folder, diagnosis, self.processes, self.log.say)
        self.log.go_back(state.step)

    def save_averages(self) -> None:
        """A snapshot of the power averages, from which any width can be had later."""
        state = self.state
        size = state.recipe.train.batch_size
        save_snapshot(self.folder, state.emas, state.step, size, self.processes)

    def save(self) -> None:
        """A checkpoint."""
        state = self.state
        self.watchdog.begins("save", state.step)
        content = state.state_dict()
        _, shard = mesh_shape(state.recipe.parallel, self.processes)
        require_equal_replicas(content, shard, self.processes)
        self.saver.begin(content, state.step)
