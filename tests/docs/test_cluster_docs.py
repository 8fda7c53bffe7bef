"""The page on clusters: its commands, scripts and files are what their programs accept."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
BASH = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
BY_SRUN, BY_TORCHRUN = (block for block in BASH if "#SBATCH" in block)

STAND_INS = {
    "srun": 'export SLURM_PROCID=3 SLURM_LOCALID=1 SLURM_NODEID=2\nexec "$@"',
    "scontrol": 'if [ "$1" = show ]; then echo first; echo second; else echo "scontrol $*"; fi',
    "rawdiff": 'echo "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $*"; exit $CODE',
    "torchrun": 'trap "exit 1" TERM\necho "torchrun $*"\nif [ -n "$WAIT" ]; then '
    "while :; do sleep 0.05; done; fi",
}
JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NODELIST": "many",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "4",
    "WAIT": "",
}


def _torchrun_commands() -> list[list[str]]:
    scripts = "".join(BASH).replace("\\\n", " ")
    kubernetes = yaml.safe_load_all(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    (container,) = list(kubernetes)[1]["spec"]["template"]["spec"]["containers"]
    lines = [*re.findall(r"(torchrun --n[^'\n]*)", scripts), *container["args"]]
    return [shlex.split(line)[shlex.split(line).index("torchrun") + 1 :] for line in lines]


def test_torchrun_knows_every_option_that_the_page_gives_it() -> None:
    commands = _torchrun_commands()
    assert len(commands) >= 4
    for command in commands:
        numbers = [re.sub(r"\$\w+", "1", part) for part in command]
        args = get_args_parser().parse_args(numbers)
        assert args.module
        assert args.training_script == "rawdiff"
        assert args.training_script_args[0] == "train"


@pytest.fixture
def job(tmp_path) -> dict[str, str]:
    """The environment of a job of SLURM on a machine that has none."""
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return os.environ | JOB | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_a_job_that_was_stopped_is_requeued_and_no_other(job, code) -> None:
    done = subprocess.run(
        ["bash", "-c", BY_SRUN], env=job | {"CODE": str(code)}, capture_output=True, text=True
    )
    assert done.returncode == code
    ran, *requeued = done.stdout.splitlines()
    assert ran == "3 8 1 2 first train recipe.yaml"
    assert requeued == (["scontrol requeue 7"] if code == 75 else [])


def test_torchrun_in_a_job_is_told_to_stop_and_the_job_is_requeued(job) -> None:
    script = subprocess.Popen(
        ["bash", "-c", BY_TORCHRUN], env=job | {"WAIT": "1"}, stdout=subprocess.PIPE, text=True
    )
    assert script.stdout is not None
    assert script.stdout.readline().startswith("torchrun --nnodes=4 --node-rank=2")
    script.send_signal(signal.SIGUSR1)
    assert script.stdout.read() == "scontrol requeue 7\n"
    assert script.wait(10) != 0


def test_torchrun_in_a_job_that_ends_by_itself_is_not_requeued(job) -> None:
    done = subprocess.run(["bash", "-c", BY_TORCHRUN], env=job, capture_output=True, text=True)
    assert done.returncode == 0
    assert "requeue" not in done.stdout


def test_every_script_of_the_page_is_one_for_bash() -> None:
    for block in BASH:
        assert subprocess.run(["bash", "-n", "-c", block]).returncode == 0
