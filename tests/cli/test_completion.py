"""Real shells complete commands, recipes, runs and keys."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rawdiff.cli.completion import keys

ASK_BASH = """
eval "$(rawdiff completion bash)"
function_of=$(complete -p rawdiff | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9; COMPREPLY=()
$function_of rawdiff
printf '%s\\n' "${COMPREPLY[@]}"
"""


ESCAPES = re.compile(r"\x1b[\[\]=>?][0-9;?]*[a-zA-Z]?|.\x08")


@contextmanager
def typed_into(command: list[str], place: Path) -> Iterator[tuple[Callable, Callable]]:
    """A process in a terminal: type_in(text), and wait_for(text that it shows)."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(place)
        os.execve(command[0], command, surroundings(place))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        ends = time.monotonic() + 30
        while text not in ESCAPES.sub("", seen):
            assert time.monotonic() < ends, f"{text!r} is not in {seen!r}"
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")
        seen = ""

    try:
        yield lambda text: os.write(terminal, text.encode()), wait_for
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


CASES = [
    ("rawdiff tra", ["train"]),
    ("rawdiff train weather_de", ["weather_demo"]),
    ("rawdiff train dem", ["demo", "demos/"]),
    ("rawdiff sample run", ["runs/first"]),
    ("rawdiff train demo parallel.com", ["parallel.compile="]),
    ("rawdiff train demo train.precision=b", ["train.precision=bfloat16"]),
    ("rawdiff eval runs/first --metr", ["--metric"]),
]


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder to stand in, with a run."""
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "demos").mkdir()
    (tmp_path / "runs" / "first" / "recipe.yaml").touch()
    return tmp_path


def found_shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name} here")
    return path


def surroundings(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HOME": str(home), "TERM": "xterm", "ZDOTDIR": str(home)}


def asked(shell: list[str], place: Path) -> list[str]:
    done = subprocess.run(
        shell, cwd=place, env=surroundings(place), capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.rstrip("\n").split("\n")


@pytest.mark.parametrize(("line", "found"), CASES)
def test_bash_completes(line, found, place) -> None:
    shown = asked([found_shell("bash"), "-c", ASK_BASH, "bash", line], place)
    if "precision=" in line:  # bash cuts words at `=`
        found = [key.partition("=")[2] for key in found]
    assert [key.strip() for key in shown] == found


def test_bash_completes_a_section_by_its_keys(place) -> None:
    """A space would follow the name of a section alone."""
    line = "rawdiff train demo para"
    shown = asked([found_shell("bash"), "-c", ASK_BASH, "bash", line], place)
    assert "parallel.compile=" in shown
    assert all(key.startswith("parallel.") for key in shown)


@pytest.mark.parametrize(("line", "found"), CASES)
def test_fish_completes(line, found, place) -> None:
    ask = f"rawdiff completion fish | source; complete --do-complete '{line}'"
    shown = asked([found_shell("fish"), "--no-config", "-c", ask], place)
    assert [key.partition("\t")[0] for key in shown] == found


def test_zsh_completes_whether_its_completion_was_started_or_not(place) -> None:
    """Only a shell that is typed into completes."""
    for started in ("", "autoload -Uz compinit && compinit -u\n"):
        (place / ".zshrc").write_text(f'{started}eval "$(rawdiff completion zsh)"\nPS1="READY "\n')
        with typed_into([found_shell("zsh"), "-i"], place) as (type_in, wait_for):
            wait_for("READY ")
            for line, found in CASES:
                if len(found) > 1:
                    continue  # shown as a menu
                type_in(f"{line}\t")
                wait_for(f"{line.rpartition(' ')[0]} {found[0]}")
                type_in("\x15")  # erases the line


def test_values_of_a_key_are_those_that_it_may_take() -> None:
    assert keys("train.precision=") == [
        f"train.precision={value}" for value in ("auto", "float32", "bfloat16")
    ]
    assert {"parallel.compile=true", "parallel.compile=auto"} <= set(keys("parallel.compile="))
    assert "sample.observe.method.name=mmps" in keys("sample.observe.method.name=")
    assert keys("nonsense.") == keys("seed=") == []
