"""Scores of many samples: killed and continued, balanced, at any size, by named evaluators."""

import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import side_by_side
from runs import small_recipe, write_arrays
from toy_scores import Means

import rawdiff.run
from rawdiff import results
from rawdiff.cli.main import main
from rawdiff.data.arrays import ArrayDataset
from rawdiff.data.writer import Writer
from rawdiff.draw import drawing
from rawdiff.errors import UserError
from rawdiff.evaluate.choose import choose_evaluators
from rawdiff.evaluate.evaluator import Evaluator, OwnReference
from rawdiff.evaluate.report import GENERATED, ORACLE, REFERENCE
from rawdiff.plugins import load_plugin
from rawdiff.recipe_file import load_recipe
from rawdiff.sampling import Sampler
from rawdiff.saved.folder import RunFolder
from rawdiff.scoring import facts
from rawdiff.scoring import scores as scoring
from rawdiff.train.start import train

QUIET = {"say": lambda text: None}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    x = np.tile(np.arange(40, dtype=np.float32)[:, None, None], (1, 1, 8))
    x[::3, :, 0] = np.nan
    data = write_arrays(folder, x=x, labels=np.arange(40) % 4)
    recipe = small_recipe(
        folder,
        data,
        [2],
        train={"num_steps": 2},
        holdout={"fraction": 0.25},
        checkpoint={"every_steps": 1, "keep_last": 5},
    )
    return train(load_recipe(recipe), say=lambda text: None).path


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def draws(monkeypatch):
    """What was drawn: (numbers, labels) of each batch."""
    found, draw = [], Sampler.draw

    def counted(sampler, index, conditions, settings):
        found.append((index.tolist(), conditions.label.tolist()))
        return draw(sampler, index, conditions, settings)

    monkeypatch.setattr(Sampler, "draw", counted)
    return found


def use(monkeypatch, **evaluators):
    monkeypatch.setattr(results, "choose_evaluators", lambda recipe, metrics, info: evaluators)


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


def test_sampling_many_keeps_in_memory_only_what_the_picture_shows(run, monkeypatch) -> None:
    kept = []

    def batch(sampler, num_samples, conditions, settings, **others):
        values = np.zeros((num_samples, 1, 8), dtype=np.float32)
        kept.append(weakref.ref(values))
        yield torch.from_numpy(values)

    monkeypatch.setattr(drawing, "draw_all", batch)
    monkeypatch.setattr(Writer, "num_drawn", 70)
    alive = []
    results.sample_run(
        run,
        ["sample.num_samples=400", "sample.batch_size=50"],
        say=lambda text: None,
        progress=lambda done, total: alive.append(sum(ref() is not None for ref in kept)),
    )
    assert len(kept) == 8
    assert max(alive) <= 2  # one that is written, and the last


def test_classes_are_balanced_and_it_is_said_where_they_are_not(run, monkeypatch, draws) -> None:
    said = []
    use(monkeypatch, means=Means(num_samples=12))
    results.evaluate_run(run, say=said.append)
    labels = [label for _, part in draws for label in part]
    assert labels == [i % 4 for i in range(12)]
    assert not [text for text in said if "in turn" in text]
    use(monkeypatch, means=Means(num_samples=10))
    results.evaluate_run(run, say=said.append)
    assert [text for text in said if "the first 2 classes get one more" in text]


def test_each_column_has_its_own_number(run, monkeypatch) -> None:
    use(monkeypatch, means=Means(num_samples=12, num_reference=7))
    report = results.evaluate_run(run, **QUIET)
    assert report.counts == {"means": {GENERATED: 12, ORACLE: 10, REFERENCE: 7}}
    assert report.goals["means"] == "low"
    assert set(report.scores["means"]) == {GENERATED, ORACLE}


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"pool": torch.zeros(1, 3)}, r"`pool` with 1 rows \[1, 3\] for a batch of 4 samples"),
        ({"pool": torch.tensor(1.0)}, "`pool` with no rows"),
        ({}, "returned nothing"),
    ],
)
def test_features_without_a_row_for_each_sample_are_named_with_the_cure(
    run, monkeypatch, features, said
) -> None:
    class Mistaken(Means):
        def features(self, batch, basis):
            return features

    use(monkeypatch, mistaken=Mistaken(num_samples=4, batch_size=4))
    with pytest.raises(UserError, match=rf"`Mistaken.features` .*{said}.*one row for each sample"):
        results.evaluate_run(run, **QUIET)


def test_a_reference_of_its_own_takes_the_place_of_the_training_data(run, monkeypatch) -> None:
    np.save(run / "other.npy", np.full((6, 1, 8), 7.0, dtype=np.float32))

    class Own(Means):
        def own_reference(self, basis):
            return OwnReference(ArrayDataset(path=run / "other.npy"))

        def score(self, features, reference, basis):
            return {"": float(reference["values"].mean())}

    use(monkeypatch, own=Own(num_samples=4))
    report = results.evaluate_run(run, **QUIET)
    assert report.scores["own"][GENERATED] == 7
    assert report.counts["own"][REFERENCE] == 6


def test_a_reference_of_its_own_serves_without_the_training_data(run, monkeypatch) -> None:
    class Fixed(Means):
        def own_reference(self, basis):
            return OwnReference(tensors={"values": torch.zeros(3, 8)})

    recipe = (run / "recipe.yaml").read_text().replace("data.npz", "gone.npz")
    (run / "recipe.yaml").write_text(recipe)
    use(monkeypatch, fixed=Fixed(num_samples=4))
    said = []
    report = results.evaluate_run(run, say=said.append)
    assert set(report.scores["fixed"]) == {GENERATED}
    assert any("gone.npz" in text for text in said)
    use(monkeypatch, means=Means(num_samples=4))
    with pytest.raises(UserError, match=r"gone\.npz"):
        results.evaluate_run(run, **QUIET)


def test_samples_are_scored_at_the_size_that_is_asked_for(run, monkeypatch) -> None:
    seen = []

    class Shapes(Evaluator):
        def score(self, samples, reference, basis):
            seen.append((samples.shape, reference.shape, basis.info.shape, basis.adapter))
            return {"": 0.0}

    class FeatureShapes(Means):
        def features(self, batch, basis):
            seen.append((batch.shape, batch.shape, basis.info.shape, basis.adapter))
            return super().features(batch, basis)

    use(monkeypatch, shapes=Shapes(), means=FeatureShapes(num_samples=4))
    for size, expected in ((4, 4), ([16], 16)):
        seen.clear()
        results.evaluate_run(run, [f"evaluate.size={size}"], **QUIET)
        assert seen
        for samples, reference, info, adapter in seen:
            assert samples[1:] == reference[1:] == info == (1, expected)
            assert adapter is None


@pytest.mark.parametrize("size", [4, 13])
def test_all_built_in_evaluators_score_at_another_size(run, size) -> None:
    report = results.evaluate_run(run, [f"evaluate.size={size}"], **QUIET)
    assert {name.partition("/")[0] for name in report.scores} == {
        "frechet", "wasserstein", "spectrum", "neighbours",
    }  # fmt: skip  # patches lie on no whole values: no seam


def test_named_metrics_are_scored_alone_into_a_file_of_their_own(run, capsys) -> None:
    assert main(["eval", str(run), "--metric", "frechet,seam", "--metric", "spectrum"]) == 0
    shown = capsys.readouterr().out
    path = run / "scores-frechet-seam-spectrum.json"
    assert str(path) in shown.replace("\n", "")
    assert set(json.loads(path.read_text())["scores"]) == {"frechet", "seam", "spectrum"}
    assert not (run / "scores.json").exists()
    results.evaluate_run(run, metrics=["seam"], out=run / "mine.json", **QUIET)
    assert set(json.loads((run / "mine.json").read_text())["scores"]) == {"seam"}


def test_keys_may_stand_after_an_option_and_unknown_options_are_still_refused(run, capsys) -> None:
    keys = "evaluate.evaluators.frechet.num_components=2"
    assert main(["eval", str(run), "--metric", "frechet", keys, "sample.seed=3"]) == 0
    origin = json.loads((run / "scores-frechet.json").read_text())["origin"]
    assert origin["evaluate"]["evaluators"] == {"frechet": {"num_components": 2}}
    assert origin["sample"]["seed"] == 3
    for wrong, found in (
        (["eval", str(run), "sample.seed=3", "--metrik=frechet"], "--metrik=frechet"),
        (["sample", str(run), "--film", "sample.seed=3", "--num-steps", "7"], "--num-steps 7"),
        (["list", "more=1"], "more=1"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert f"unrecognized arguments: {found} (`rawdiff {wrong[0]}" in capsys.readouterr().err


def test_an_unknown_metric_gets_the_nearest_name(run, capsys) -> None:
    assert main(["eval", str(run), "--metric", "frechett"]) == 2
    assert "Did you mean `frechet`?" in capsys.readouterr().err
    assert main(["eval", str(run), "--metric", "frechet/x"]) == 2
    assert "`frechet/x` is no evaluator. Write `frechet`" in capsys.readouterr().err


def test_where_there_is_no_score_it_is_said_why_before_anything_is_drawn(
    run, draws, capsys
) -> None:
    assert main(["eval", str(run), "--metric", "seam", "evaluate.size=16"]) == 2
    assert "at another size than the model's" in (error := capsys.readouterr().err)
    assert "Leave `evaluate.size` out" in error
    assert not draws
    assert main(["eval", str(run), "--metric", "seam,frechet", "evaluate.size=16"]) == 0
    assert "`seam` has no score: samples are scored at another" in capsys.readouterr().out


def test_an_evaluator_that_gives_no_score_is_named(run, monkeypatch, draws) -> None:
    class Silent(Evaluator):
        def score(self, samples, reference, basis):
            return {}

    use(monkeypatch, silent=Silent())
    said = []
    results.evaluate_run(run, say=said.append)
    assert "`silent` found nothing to score in these samples." in said


def test_evaluators_name_beforehand_the_scores_that_they_have(run) -> None:
    report = results.evaluate_run(run, **QUIET)
    recipe, info = load_recipe(run / "recipe.yaml"), RunFolder(run).info()
    named = {
        f"{name}/{key}" if key else name
        for name, evaluator in choose_evaluators(recipe).items()
        for key in evaluator.score_keys(info)
    }
    assert named == set(report.scores)


def test_evaluators_that_need_more_are_used_only_where_they_are_named(run) -> None:
    recipe = load_recipe(run / "recipe.yaml")
    assert "fid" not in choose_evaluators(recipe)
    assert "frechet" in choose_evaluators(recipe)
    named = choose_evaluators(recipe, ["fid", "frechet", "fid"])
    assert list(named) == ["fid", "frechet"]


def test_keys_of_the_recipe_hold_for_named_metrics(run) -> None:
    overrides = ["evaluate.evaluators.frechet.num_components=3"]
    recipe = load_recipe(run / "recipe.yaml", overrides)
    assert choose_evaluators(recipe, ["frechet"])["frechet"].num_components == 3


def test_goals_say_what_a_search_looks_for() -> None:
    for name, key, goal in [
        ("frechet", "", "low"),
        ("seam", "", "oracle"),
        ("neighbours", "", "oracle"),
        ("neighbours", "copies", "low"),
        ("fid", "", "low"),
        ("fid", "inception_score", "high"),
        ("fid", "recall", "high"),
    ]:
        assert load_plugin("evaluators", name)().goal(key) == goal
