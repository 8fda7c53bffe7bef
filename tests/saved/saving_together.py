"""Saves at steps 1 to 6 of a sharded tensor that changes as soon as it may; run by torchrun.

Prints what was tried and said, a JSON list on each line.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from disk import full_after
from torch.distributed.checkpoint.staging import DefaultStager
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from rawdiff.errors import UserError
from rawdiff.parallel.launch import leave
from rawdiff.parallel.processes import Processes, join_processes
from rawdiff.recipe import CheckpointSettings
from rawdiff.saved import saving
from rawdiff.saved.folder import DESCRIPTION, RunFolder
from rawdiff.saved.saving import Saver

said: list[str] = []
folder = RunFolder(Path(sys.argv[1]))


def new_saver(processes: Processes, mode: str) -> Saver:
    settings = CheckpointSettings(mode=mode, keep_last=9)
    return Saver(folder, settings, processes, torch.device("cpu"), said.append)


def tell(processes: Processes, what: str) -> None:
    if processes.is_first:
        print(json.dumps([what, *said]), flush=True)
    said.clear()


def try_modes(processes: Processes, save: Callable[[Saver, int], None]) -> None:
    with new_saver(processes, "process") as saver:
        save(saver, 1)
        tell(processes, f"by process: {saver.mode}")
        writer = saver._writer._save_process
        os.kill(writer.pid, signal.SIGTERM)
        save(saver, 2)
        tell(processes, f"after SIGTERM to the writers: {saver.mode}")
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        save(saver, 3)
        tell(processes, f"without a writer: {saver.mode}")
    saving.SHARED_MEMORY = Path("/not/there")
    with new_saver(processes, "process") as saver:
        save(saver, 4)
        tell(processes, f"without shared memory: {saver.mode}")
    if processes.rank == 1:
        DefaultStager.stage = no_memory
    with new_saver(processes, "thread") as saver:
        save(saver, 5)
        tell(processes, f"without memory: {saver.mode}")
    with new_saver(processes, "sync") as saver:
        try:
            # The folder, the run's files, then its own shard; the other process has space.
            with full_after(1 + len(DESCRIPTION), folder.path):
                save(saver, 6)
        except UserError as error:
            said.append(str(error))
        tell(processes, "without space")


def no_memory(self: DefaultStager, state: object) -> None:
    raise MemoryError("no memory in process 1")


def main() -> None:
    with join_processes(on_gpu=False) as processes:
        mesh = init_device_mesh("cpu", (2,))
        w = distribute_tensor(torch.arange(15.0).view(5, 3), mesh, [Shard(0)])

        def save(saver: Saver, step: int) -> None:
            w.add_(1)
            saver.begin({"w": w, "step": torch.tensor(step)}, step)
            saver.wait_until_staged()
            w.add_(1000)
            saver.finish()
            w.sub_(1000)

        try_modes(processes, save)


if __name__ == "__main__":  # the process that writes imports this file
    main()
    leave(0)
