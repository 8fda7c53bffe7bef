"""The command line explains itself, serves scripts, and answers a slip with the nearest name."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, field_serializer
from pydantic_core import PydanticSerializationError
from runs import small_recipe, write_arrays

from rawdiff.cli import lookup
from rawdiff.cli.main import main
from rawdiff.cli.manual import EXAMPLES, EXIT_CODES
from rawdiff.cli.parser import make_parser, parse
from rawdiff.saved.checkpoint import checkpoints
from rawdiff.saved.folder import RunFolder
from rawdiff.train.stopping import StoppedError

NAMES = sorted(make_parser()[1])
CLUSTER = Path(__file__).parents[2] / "docs" / "cluster.md"


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_every_command_ends_with_commands_that_it_takes(name, capsys) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert [line.strip() for line in shown] == list(EXAMPLES[name])
    for line in EXAMPLES[name]:
        words = shlex.split(re.split(r" > | && ", line)[0])
        assert words[0] == "rawdiff"
        assert parse(words[1:]).command == name


def test_exit_codes_are_those_of_the_page_on_clusters(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert EXIT_CODES in capsys.readouterr().out
    codes = set(re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE))
    table = CLUSTER.read_text().partition("| code of `rawdiff`")[2].partition("\n\n")[0]
    assert codes == set(re.findall(r"^\| (\d+) \|", table, re.MULTILINE))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    x = np.random.default_rng(0).normal(size=(20, 1, 8)).astype(np.float32)
    data = write_arrays(folder, x=x)
    recipe = small_recipe(folder, data, [2], holdout={"fraction": 0.5})
    assert main(["train", str(recipe), "train.num_steps=2", "--quiet"]) == 0
    return folder / "run"


def test_json_has_standard_output_to_itself(run, capsys) -> None:
    capsys.readouterr()
    few = ["--calibration", "--members", "3", "--truths", "10", "sample.num_steps=2"]
    for command, key in (
        (["check", run.parent / "recipe.yaml"], "text"),
        (["verify", run], "damage"),
        (["list"], "kind"),
        (["eval", run], "scores"),
        (["eval", run, *few], "verdict"),
        (["likelihood", run, "sample.num_steps=2"], "means"),
    ):
        given = [str(word) for word in command]
        assert main([*given, "--json"]) == 0
        found, told = capsys.readouterr()
        content = json.loads(found)
        assert all(key in row for row in (content if isinstance(content, list) else [content]))
        assert told.strip()
        assert main([*given, "--json", "--quiet"]) == 0
        assert capsys.readouterr().err == ""


@pytest.fixture
def gone() -> Iterator[int]:
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("given", ["keys train", "schema", "list --json", "verify RUN --json"])
def test_a_reader_that_goes_early_is_no_mistake(given, run, gone) -> None:
    words = [str(run) if word == "RUN" else word for word in given.split()]
    command = [sys.executable, "-m", "rawdiff", *words, "--quiet"]
    done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_goes_on_where_nobody_reads_its_lines(run, gone, tmp_path) -> None:
    keys = [f"run_dir={tmp_path / 'run'}", "train.num_steps=3", "train.log_every=1"]
    command = [sys.executable, "-m", "rawdiff", "train", str(run.parent / "recipe.yaml"), *keys]
    done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    there = checkpoints(RunFolder.open(tmp_path / "run"))
    assert [one.step for one in there] == [3]


class Interrupted(BaseModel):
    """Pydantic is at work when a signal comes."""

    by: str

    @field_serializer("by")
    def fall_into(self, by: str) -> str:
        raise {"ctrl-c": KeyboardInterrupt, "sigterm": StoppedError, "bug": ValueError}[by]


def test_a_signal_has_its_exit_code_wherever_it_falls(monkeypatch) -> None:
    for by, code in (("ctrl-c", 130), ("sigterm", 75)):
        monkeypatch.setattr(lookup, "do_list", lambda args, by=by: Interrupted(by=by).model_dump())
        assert main(["list"]) == code
    monkeypatch.setattr(lookup, "do_list", lambda args: Interrupted(by="bug").model_dump())
    with pytest.raises(PydanticSerializationError):
        main(["list"])


def test_quiet_is_quiet_but_for_mistakes_and_only_as_long_as_it_is_asked_for(run, capsys) -> None:
    capsys.readouterr()
    assert main(["verify", str(run), "--quiet"]) == 0
    recipe = str(run.parent / "recipe.yaml")
    assert main(["train", recipe, "train.num_steps=4", "train.log_every=1", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["sample", f"{run}z", "--quiet"]) == 2
    assert "There is no run" in capsys.readouterr().err
    assert main(["verify", str(run)]) == 0
    assert "sound" in capsys.readouterr().out


def test_a_slip_is_answered_with_the_nearest_name(run, capsys, monkeypatch) -> None:
    with pytest.raises(SystemExit) as left:
        main(["trian", "demo"])
    assert left.value.code == 2
    assert "did you mean `rawdiff train`?" in capsys.readouterr().err
    for given, nearest in (
        (["sample", str(run.parent / "rum")], f"did you mean `{run}`?"),
        (["train", "deno"], "Did you mean `demo`?"),
        (["export", str(run), "file", "--format", "torch_exprot"], "Did you mean `torch_export`?"),
    ):
        assert main(given) == 2
        assert nearest in capsys.readouterr().err
    (run.parent / "runs").mkdir()
    run.rename(run.parent / "runs" / "digits")
    monkeypatch.chdir(run.parent)
    assert main(["sample", "digitz"]) == 2
    assert "did you mean `runs/digits`?" in capsys.readouterr().err
