"""Runs on several processes, for tests: started by torchrun, or with the variables that it sets."""

import os
import socket
import subprocess
import sys

ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def _program(script: object) -> list[str]:
    return ["-m", "rawdiff"] if script is None else [str(script)]


def torchrun(count: int, *args: object, script: object = None) -> subprocess.CompletedProcess[str]:
    """`torchrun … -m rawdiff …` to its end, or a script in the place of rawdiff."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", str(count), *_program(script), *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | ENVIRONMENT
    )


def side_by_side(count: int, *args: object, script: object = None) -> list[tuple[int, str, str]]:
    """As many processes as SLURM's srun would start them: exit code, output and errors of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    processes = [
        subprocess.Popen(
            [sys.executable, *_program(script), *map(str, args)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ
            | ENVIRONMENT
            | address
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)},
        )
        for rank in range(count)
    ]
    try:
        texts = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *text) for p, text in zip(processes, texts, strict=True)]
