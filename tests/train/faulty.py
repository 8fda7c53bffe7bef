"""`rawdiff` with a fault that befalls one process in one step: faulty.py FAULT RANK STEP train …"""

import os
import signal
import sys
import time

import torch

from rawdiff.cli.main import command
from rawdiff.data.dataset import Batch
from rawdiff.parallel.apply import local
from rawdiff.train.loop import Loop


def hang(loop: Loop) -> None:
    """Longer than others wait, but shorter than torchrun does."""
    time.sleep(20)


def stop(loop: Loop) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def kill(loop: Loop) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def flip(loop: Loop) -> None:
    """One bit of one weight."""
    weight = local(next(iter(loop.state.network.parameters())).detach())
    weight.view(torch.int32).view(-1)[:1].bitwise_xor_(1)


FAULTS = {fault.__name__: fault for fault in (hang, stop, kill, flip)}


def befall(name: str, rank: int, step: int) -> None:
    train_step = Loop.train_step

    def with_fault(loop: Loop, batch: Batch) -> None:
        train_step(loop, batch)
        if loop.processes.rank == rank and loop.state.step == step:
            FAULTS[name](loop)

    Loop.train_step = with_fault  # type: ignore[method-assign]


if __name__ == "__main__":
    befall(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    command(sys.argv[4:])
