"""The process beside each one of a run that writes its part of the checkpoints."""

from __future__ import annotations

import logging
import signal
import warnings
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint._async_process_executor import (
    _AsyncCheckpointProcess,
    _CheckpointSaveProcessControlOpts,
    _ProcessGroupInitInfo,
)

SECONDS_TO_END = 10.0
# Schedulers send signals to all processes; a run that stops still needs its last checkpoint.
BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class WriterProcess(_AsyncCheckpointProcess):
    """Torch's process for asynchronous checkpoints, without its chatter.

    Made and called by all processes of the group together; `save` returns when all is written, and
    raises CheckpointException where the disk refuses, RuntimeError where the process is gone.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        resource_tracker.ensure_running()  # whose start would undo the blocking
        before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)  # inherited by the process
        try:
            super().__init__(_ProcessGroupInitInfo(group))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @staticmethod
    def _checkpointing_subprocess(
        pg_init_info: _ProcessGroupInitInfo, parent_conn: Connection
    ) -> None:
        logging.disable(logging.WARNING)  # errors are raised to us
        warnings.simplefilter("ignore")
        _AsyncCheckpointProcess._checkpointing_subprocess(pg_init_info, parent_conn)

    def _send(self, data: Any) -> None:
        if not self._save_process.is_alive():
            raise RuntimeError(f"it ended with exit code {self._save_process.exitcode}")
        super()._send(data)

    def close(self) -> None:
        """End the process, which has nothing to write any more."""
        with suppress(OSError, RuntimeError):  # it has ended already
            self._send(_CheckpointSaveProcessControlOpts.TERMINATE)
        self._save_process.join(SECONDS_TO_END)
        if self._save_process.is_alive():
            self._save_process.kill()
