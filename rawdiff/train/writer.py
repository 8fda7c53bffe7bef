"""The process beside each one of a run that writes its part of the checkpoints."""

from __future__ import annotations

import logging
import signal
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint._async_process_executor import (
    _AsyncCheckpointProcess,
    _CheckpointSaveProcessControlOpts,
    _ProcessGroupInitInfo,
)

SECONDS_TO_END = 10.0


class WriterProcess(_AsyncCheckpointProcess):
    """Torch's process for asynchronous checkpoints, without its chatter.

    Made and called by all processes of the group together; `save` returns when all is written, and
    raises CheckpointException where the disk refuses, RuntimeError where the process is gone.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        super().__init__(_ProcessGroupInitInfo(group))

    @staticmethod
    def _checkpointing_subprocess(
        pg_init_info: _ProcessGroupInitInfo, parent_conn: Connection
    ) -> None:
        # Schedulers send signals to all; the run that stops still needs its last checkpoint.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
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
