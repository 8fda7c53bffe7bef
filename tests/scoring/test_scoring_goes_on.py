"""What was scored is not scored again, unless something that it depends on has changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import side_by_side
from toy_scores import Means, use

import rawdiff.run
from rawdiff import results
from rawdiff.data.arrays import ArrayDataset
from rawdiff.evaluate.evaluator import OwnReference
from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.plugins import load_plugin
from rawdiff.recipe_file import load_recipe
from rawdiff.saved.folder import RunFolder
from rawdiff.scoring import facts
from rawdiff.scoring import scores as scoring

QUIET = {"say": lambda text: None}


def in_own_process(run: Path, log: Path, kind: str, kill_at: int = -1) -> int:
    tests = Path(__file__).parents[1]
    command = [sys.executable, tests / "toy_scores.py", run, log, kind, kill_at]
    environment = os.environ | {"PYTHONPATH": str(tests)}
    return subprocess.run(list(map(str, command)), env=environment, timeout=300).returncode


@pytest.mark.parametrize(("kind", "num"), [("features", 18), ("samples", 10)])
def test_a_killed_scoring_draws_nothing_twice_and_ends_with_the_same_numbers(
    run, tmp_path, kind, num
) -> None:
    whole = shutil.copytree(run, tmp_path / "never killed")
    assert in_own_process(whole, tmp_path / "whole.log", kind) == 0
    assert in_own_process(run, tmp_path / "log", kind, kill_at=2) == -signal.SIGKILL
    assert not (run / "scores.json").exists()
    assert in_own_process(run, tmp_path / "log", kind) == 0
    drawn = [i for line in (tmp_path / "log").read_text().splitlines() for i in json.loads(line)]
    assert drawn == list(range(num))
    assert (tmp_path / "log").read_text() == (tmp_path / "whole.log").read_text()
    scores, expected = (
        json.loads((path / "scores.json").read_text())["scores"] for path in (run, whole)
    )
    assert scores == expected


@pytest.mark.parametrize("kind", ["features", "samples"])
def test_processes_share_a_scoring_that_was_killed_and_find_the_same_numbers(
    run, tmp_path, kind
) -> None:
    whole = shutil.copytree(run, tmp_path / "whole")
    assert in_own_process(whole, tmp_path / "whole.log", kind) == 0
    assert in_own_process(run, tmp_path / "log", kind, kill_at=1) == -signal.SIGKILL
    script = Path(__file__).parents[1] / "toy_scores.py"
    ended = side_by_side(2, run, tmp_path / "log", kind, -1, script=script)
    assert [code for code, _, _ in ended] == [0, 0], ended
    (_, told, _), (_, silent, _) = ended
    assert "4 of" in told  # samples are there already
    assert silent == ""
    drawn, expected = (
        sorted((tmp_path / name).read_text().splitlines()) for name in ("log", "whole.log")
    )
    assert drawn == expected
    scores, of_one = ((path / "scores.json").read_text() for path in (run, whole))
    assert json.loads(scores)["scores"] == json.loads(of_one)["scores"]
    left = [json.loads(path.read_text())["kept"] for path in (run / "scoring").glob("*/*.json")]
    assert left == (["features"] * 3 if kind == "features" else [])


def test_features_are_kept_and_samples_are_not(run, monkeypatch, draws) -> None:
    use(monkeypatch, means=Means(num_samples=8), frechet=load_plugin("evaluators", "frechet")())
    first = results.evaluate_run(run, **QUIET)
    kept = [json.loads(path.read_text())["kept"] for path in (run / "scoring").glob("*/*.json")]
    assert kept == ["features"] * 3  # generated, held-out and training samples
    draws.clear()
    use(monkeypatch, means=Means(num_samples=8))
    again = results.evaluate_run(run, **QUIET)
    assert not draws
    assert again.scores["means"] == first.scores["means"]


@pytest.mark.parametrize(
    ("override", "step"),
    [
        ("sample.seed=1", None),
        ("sample.num_steps=4", None),
        ("sample.weights=model", None),
        (None, 1),
    ],
)
def test_another_step_or_setting_draws_anew_and_leaves_the_first_alone(
    run, monkeypatch, draws, override, step
) -> None:
    use(monkeypatch, means=Means(num_samples=8))
    first = results.evaluate_run(run, **QUIET)
    before = {path: path.read_bytes() for path in (run / "scoring").glob("*/*.safetensors")}
    draws.clear()
    other = results.evaluate_run(run, [override] if override else [], step=step, **QUIET)
    assert sum(len(index) for index, _ in draws) == 8
    assert other.scores["means"][GENERATED] != first.scores["means"][GENERATED]
    assert other.scores["means"][ORACLE] == first.scores["means"][ORACLE]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_other_weights_under_the_same_step_are_drawn_anew(run, trained, monkeypatch, draws) -> None:
    use(monkeypatch, means=Means(num_samples=8))
    results.evaluate_run(run, **QUIET)
    draws.clear()
    read = rawdiff.run.read_weights

    def other(*args):
        found = read(*args)
        return replace(found, tensors={name: x + 0.01 for name, x in found.tensors.items()})

    monkeypatch.setattr("rawdiff.run.read_weights", other)
    results.evaluate_run(run, **QUIET)
    assert draws


def test_a_reference_whose_files_were_exchanged_is_read_anew(run, monkeypatch) -> None:
    path = run / "other.npy"

    class Own(Means):
        def own_reference(self, basis):
            return OwnReference(ArrayDataset(path=path))

        def score(self, features, reference, basis):
            return {"": float(reference["values"].mean())}

    use(monkeypatch, own=Own(num_samples=4))
    for value in (7.0, 8.0):
        np.save(path, np.full((6, 1, 8), value, dtype=np.float32))
        assert results.evaluate_run(run, **QUIET).scores["own"][GENERATED] == value


@pytest.mark.parametrize("changed", ["statistics", "info", "version", "code"])
def test_features_are_taken_anew_of_another_training_or_by_other_code(
    run, monkeypatch, draws, changed
) -> None:
    use(monkeypatch, means=Means(num_samples=8))
    results.evaluate_run(run, **QUIET)
    before = len(list((run / "scoring").iterdir()))
    draws.clear()
    if changed == "statistics":
        folder = RunFolder(run)
        found = folder.statistics()
        replace(found, x=replace(found.x, std=2 * found.x.std)).save(folder.statistics_file)
    elif changed == "info":
        described = (run / "data.json").read_text()
        other = described.replace('"value_range": null', '"value_range": [0, 9]')
        assert other != described
        (run / "data.json").write_text(other)
        monkeypatch.setattr(scoring, "require_same_data", lambda *args: None)
    elif changed == "version":
        monkeypatch.setattr(facts, "__version__", "later")
    else:
        monkeypatch.setattr(facts, "code_digest", lambda kind: "changed")
    results.evaluate_run(run, **QUIET)
    assert len(list((run / "scoring").iterdir())) == 2 * before
    assert draws


def test_other_held_out_data_are_drawn_for_anew(run, monkeypatch, draws) -> None:
    """Killed before the scores are written; labels of the held-out samples change meanwhile."""
    use(monkeypatch, frechet=load_plugin("evaluators", "frechet")())
    arrays = dict(np.load(load_recipe(run / "recipe.yaml").data.path))
    other = run / "data.npz"
    np.savez(other, **arrays)
    recipe = [f"data.path={other}"]

    def kill(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rawdiff.scoring.scores.evaluate", kill)
        with pytest.raises(KeyboardInterrupt):
            results.evaluate_run(run, recipe, **QUIET)
    draws.clear()
    np.savez(other, **(arrays | {"labels": 3 - arrays["labels"]}))
    results.evaluate_run(run, recipe, **QUIET)
    assert sum(len(index) for index, _ in draws) == 10
