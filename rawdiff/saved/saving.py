"""Writing checkpoints beside the steps of a run, so that training hardly waits.

The state is copied aside (staged) while the next step computes its gradients; a process or a thread
writes the copy. `publish` makes a checkpoint of what was written.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from rawdiff.errors import UserError
from rawdiff.parallel.apply import local, named_tensors
from rawdiff.parallel.processes import FailedTogetherError, Processes
from rawdiff.recipe import CheckpointSettings
from rawdiff.saved.checkpoint import checkpoints
from rawdiff.saved.folder import RunFolder
from rawdiff.saved.interval import Interval
from rawdiff.saved.publish import State, clear_leftovers, commit, make_partial
from rawdiff.saved.writer import WriterProcess

Say = Callable[[str], None]

SHARED_MEMORY = Path("/dev/shm")  # through it a copy reaches the process beside
FALL_BACK = {"process": "thread", "thread": "sync"}
WRITER = {
    "process": "a process beside",
    "thread": "a thread",
    "sync": "training itself, which waits for it,",
}


class Saver:
    """Saves a run's states, one at a time. All processes call its methods after the same steps."""

    def __init__(
        self,
        folder: RunFolder,
        settings: CheckpointSettings,
        processes: Processes,
        device: torch.device,
        say: Say,
    ) -> None:
        self.folder, self.settings, self.say = folder, settings, say
        self.processes, self.beside = processes, processes.beside()
        self.on_gpu = device.type == "cuda"
        self.mode: str | None = None
        self.interval = Interval(settings, processes, say)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._stager: DefaultStager | None = None
        self._writer: WriterProcess | None = None
        self._begun: tuple[State, int, float] | None = None
        self._staged: Future[tuple[State, str | None]] | None = None
        self._saving: Future[None] | None = None
        processes.from_first(lambda: clear_leftovers(folder))

    def __enter__(self) -> Saver:
        return self

    def due(self, step: int) -> bool:
        """Whether the recipe wants a checkpoint after this step."""
        return self.interval.due(step)

    def begin(self, state: State, step: int) -> None:
        """Save a state, which must not change before `wait_until_staged` or `finish`.

        Finishes the save before. Raises UserError if that, or this one, cannot be written.
        """
        start = time.perf_counter()
        self.finish()
        if self.mode is None:
            self.mode = self._choose_mode(state)
        self._begin(state, step)
        self._begun = state, step, time.perf_counter() - start

    def _begin(self, state: State, step: int) -> None:
        if self.mode == "sync":
            self._save(state, step)
            return
        copying = self._copy_aside(state)
        self._staged = staged = self._thread.submit(self._all_staged, copying)
        self._saving = self._thread.submit(self._save_staged, staged, step)

    def wait_until_staged(self) -> None:
        """From here on the state may change."""
        if self._begun is None:
            return
        state, step, stall = self._begun
        start = time.perf_counter()
        while self._staged is not None:
            staged, self._staged = self._staged, None
            _, problem = staged.result()
            if problem is not None:
                self.mode = self._fall_back(str(self.mode), problem)
                self._stager = None
                self._begin(state, step)
        self._begun = None
        self.interval.plan(step, stall + time.perf_counter() - start)

    @property
    def failed(self) -> bool:
        """Whether a save failed in the meantime: then `finish`, called by all, tells how."""
        saving = self._saving
        return saving is not None and saving.done() and saving.exception() is not None

    def finish(self) -> None:
        """Wait until what was begun is published. UserError if it could not be written."""
        self.wait_until_staged()
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """A save under way is brought to its end, also after an error."""
        try:
            if error is None:
                self.finish()
        finally:
            self._thread.shutdown(wait=True)
            if self._stager is not None:
                self._stager.close()
            if self._writer is not None:
                self._writer.close()

    def _choose_mode(self, state: State) -> str:
        mode: str = self.settings.mode
        if mode == "auto":
            mode = "process" if self.on_gpu and self.processes.count > 1 else "thread"
        if mode == "process" and (reason := self._why_no_process(state)) is not None:
            return self._fall_back(mode, reason)
        return mode

    def _why_no_process(self, state: State) -> str | None:
        """What stands against a process beside each one; the same answer in all processes."""
        if self.processes.count == 1:
            return "that needs several processes, started by torchrun"
        # A copy that outgrows it would not raise an error: it would end the run with SIGBUS.
        needed = (
            sum(local(tensor).nbytes for tensor in named_tensors(state).values())
            * self.processes.count_here
        )
        free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
        if any(self.processes.gather(free < needed)):
            return f"{SHARED_MEMORY} is too small: {needed / 1e9:.3g} GB are needed on each machine"
        return None

    def _fall_back(self, mode: str, reason: str) -> str:
        """The next mode, said in the log."""
        following = FALL_BACK[mode]
        self.say(
            f"Checkpoints cannot be written by {WRITER[mode]} ({reason}). "
            f"From now on {WRITER[following]} writes them."
        )
        return following

    def _copy_aside(self, state: State) -> Future[State]:
        """The copy to be; it fails where there is no memory for it."""
        try:
            self._stager = self._stager or self._make_stager()
            if self.on_gpu:
                torch.cuda.synchronize()  # the copy runs on a stream that waits for no other
            copying = self._stager.stage(state)
        except Exception as error:
            copying = Future()
            copying.set_exception(error)
        assert isinstance(copying, Future)
        return copying

    def _make_stager(self) -> DefaultStager:
        return DefaultStager(
            StagingOptions(
                use_pinned_memory=self.on_gpu,
                use_shared_memory=self.mode == "process",
                use_async_staging=True,
                use_non_blocking_copy=self.on_gpu,
            )
        )

    def _all_staged(self, copying: Future[State]) -> tuple[State, str | None]:
        """The copy, and what kept any of the processes from making its own. In the thread."""
        state, problem = {}, None
        try:
            state = copying.result()
        except Exception as error:
            problem = f"the state cannot be copied aside: {error}"
        problems = self.beside.gather(problem)
        return state, next((problem for problem in problems if problem is not None), None)

    def _save_staged(self, staged: Future[tuple[State, str | None]], step: int) -> None:
        state, problem = staged.result()
        if problem is None:  # else `wait_until_staged` begins anew
            self._save(state, step)

    def _save(self, state: State, step: int) -> None:
        """Write a state, publish it, delete what need not be kept. UserError if it cannot be.

        All processes are in here together, each in its thread.
        """
        partial: Path | None = None
        folder, beside = self.folder, self.beside
        try:
            while True:
                partial = beside.all_succeed(
                    lambda: make_partial(folder, step, state) if beside.is_first else None
                )[0]
                assert partial is not None
                problem = self._write_together(state, partial)
                if problem is None:
                    break
                self._discard(partial)
                self.mode = self._fall_back(str(self.mode), problem)
            commit(folder, partial, step, beside, self.settings)
        except FailedTogetherError as error:
            self._discard(partial)
            kept = [checkpoint.step for checkpoint in checkpoints(folder)]
            raise UserError(
                f"The checkpoint of step {step} could not be written to {folder.checkpoints}: "
                f"{error}. Free some space there and give the same command again; it continues "
                f"from {f'step {kept[-1]}' if kept else 'the beginning'}."
            ) from error

    def _write_together(self, state: State, partial: Path) -> str | None:
        """None once all shards are written, else what is wrong with the mode.

        Raises FailedTogetherError if the disk refuses a shard, or no other mode is left.
        """
        refused, broken = None, None
        try:
            self._write(state, partial)
        except CheckpointException as error:
            refused = _cause(error)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
        outcomes = self.beside.gather((refused, broken))
        for refused, broken in outcomes:
            if refused is not None or (broken is not None and self.mode == "sync"):
                raise FailedTogetherError(refused or broken)
        return next((broken for _, broken in outcomes if broken is not None), None)

    def _write(self, state: State, partial: Path) -> None:
        storage = FileSystemWriter(partial, single_file_per_rank=True, sync_files=True)
        group = self.beside.group
        if self.mode == "process":
            self._writer = self._writer or WriterProcess(group)
            self._writer.save(state, storage_writer=storage)
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp_save(
                state,
                storage_writer=storage,
                process_group=group,
                no_dist=self.processes.count == 1,
            )

    def _discard(self, partial: Path | None) -> None:
        if partial is not None and self.beside.is_first:
            shutil.rmtree(partial, ignore_errors=True)


def _cause(error: CheckpointException) -> str:
    """The message of the error inside torch's wrapping."""
    if error.failures:
        return str(next(iter(error.failures.values()))[0])
    return str(error)
