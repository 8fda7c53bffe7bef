"""Scores of many samples: balanced, at any size, by named evaluators."""

import json
import weakref

import numpy as np
import pytest
import torch
from toy_scores import Means, use

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
from rawdiff.saved.folder import RunFolder

QUIET = {"say": lambda text: None}


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
