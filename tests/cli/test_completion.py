"""A real shell completes commands, recipes, runs and keys."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rawdiff.cli.completion import keys

ASK = """
eval "$(rawdiff completion bash)"
function_of=$(complete -p rawdiff | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9; COMPREPLY=()
$function_of rawdiff
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("rawdiff tra", ["train "]),
        ("rawdiff train weather_de", ["weather_demo "]),
        ("rawdiff train dem", ["demo ", "demos/"]),
        ("rawdiff sample run", ["runs/first "]),
        ("rawdiff train demo para", None),
        ("rawdiff train demo parallel.com", ["parallel.compile="]),
        ("rawdiff train demo train.precision=b", ["bfloat16 "]),
        ("rawdiff eval runs/first --metr", ["--metric "]),
    ],
)
def test_bash_completes(line, found, tmp_path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "demos").mkdir()
    (tmp_path / "runs" / "first" / "recipe.yaml").touch()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", ASK, "bash", line],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    shown = done.stdout.rstrip("\n").split("\n")
    if found is None:  # a section alone: its keys, for a space would follow its name
        assert "parallel.compile=" in shown
        assert all(key.startswith("parallel.") for key in shown)
    else:
        assert [key.strip() for key in shown] == [key.strip() for key in found], done.stderr


def test_values_of_a_key_are_those_that_it_may_take() -> None:
    assert keys("train.precision=") == [
        f"train.precision={value}" for value in ("auto", "float32", "bfloat16")
    ]
    assert {"parallel.compile=true", "parallel.compile=auto"} <= set(keys("parallel.compile="))
    assert "sample.observe.method.name=mmps" in keys("sample.observe.method.name=")
    assert keys("nonsense.") == keys("seed=") == []
