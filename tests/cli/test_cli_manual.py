"""The command line explains itself, serves scripts, and answers a slip with the nearest name."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from runs import small_recipe, write_arrays

from rawdiff.cli.main import main
from rawdiff.cli.manual import EXAMPLES, EXIT_CODES
from rawdiff.cli.parser import make_parser, parse

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
    for name, key in (("check", "text"), ("verify", "damage"), ("list", "kind"), ("eval", None)):
        recipe = run.parent / "recipe.yaml"
        given = {"check": [recipe], "list": []}.get(name, [run])
        assert main([name, *map(str, given), "--json"]) == 0
        found, told = capsys.readouterr()
        content = json.loads(found)
        assert content["scores"] if key is None else all(key in row for row in content)
        assert told.strip()
        assert main([name, *map(str, given), "--json", "--quiet"]) == 0
        assert capsys.readouterr().err == ""


def test_quiet_is_quiet_but_for_mistakes_and_only_as_long_as_it_is_asked_for(run, capsys) -> None:
    capsys.readouterr()
    assert main(["verify", str(run), "--quiet"]) == 0
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
