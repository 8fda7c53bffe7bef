"""All scores beside the oracle's, for any number of dims and with missing values."""

import io
import json
import math
from pathlib import Path

import pytest
import torch
from bases import SHAPES, noise, setting_of
from rich.console import Console
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, Evaluator
from rawdiff.evaluate.report import (
    GENERATED,
    ORACLE,
    REFERENCE,
    evaluate,
    join,
    report_of,
    table,
    write,
)
from rawdiff.plugins import load_plugin

BUILT_IN = ("frechet", "wasserstein", "spectrum", "seam", "neighbours")


class Count(Evaluator):
    """Number of samples; a test of the report."""

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        return {"": len(samples), "first": float(samples.flatten()[0])}


def evaluators() -> dict[str, Evaluator]:
    return {name: load_plugin("evaluators", name)() for name in BUILT_IN}


@pytest.mark.parametrize("shape", SHAPES)
def test_all_scores_are_finite_though_values_are_missing(shape: tuple[int, ...]) -> None:
    x = 4 * noise(60, *shape) + 270
    x = x.where(noise(60, *shape, seed=1) > -1, torch.nan)
    x[..., -1] = torch.nan  # never there, as land under the sea's temperature
    samples = 270 + 4 * noise(25, *shape, seed=2)
    samples[..., -1] = torch.nan
    report = evaluate(samples, x[25:40], x[40:], setting_of(x), evaluators())
    assert {name.partition("/")[0] for name in report.scores} == set(BUILT_IN)
    for row in report.scores.values():
        assert set(row) == {GENERATED, ORACLE}
        assert all(math.isfinite(score) for score in row.values())


def test_both_columns_score_the_same_number_of_samples() -> None:
    x = noise(30, 1, 4)
    report = evaluate(x[:12], x[20:28], x, setting_of(x), {"count": Count()})
    assert report.scores["count"] == {GENERATED: 8, ORACLE: 8}
    assert report.scores["count/first"] == {GENERATED: float(x[0, 0, 0]), ORACLE: x[20, 0, 0]}
    assert report.counts == {"count": {GENERATED: 8, ORACLE: 8, REFERENCE: 30}}


def test_real_data_score_better_than_noise() -> None:
    waves = torch.sin(torch.arange(16) / 3 + 3 * noise(300, 2, 1))
    report = evaluate(noise(100, 2, 16), waves[:100], waves[100:], setting_of(waves), evaluators())
    for name in ("frechet", "wasserstein", "wasserstein/channel1", "spectrum"):
        assert report.scores[name][ORACLE] < report.scores[name][GENERATED]


def test_the_report_is_written_whole_and_can_be_read(tmp_path: Path) -> None:
    x = noise(10, 1, 4)
    report = evaluate(x, x, x, setting_of(x), {"count": Count()})
    write(report, tmp_path / "new" / "scores.json", {"step": 7})
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert written["scores"]["count"] == {GENERATED: 10, ORACLE: 10}
    assert written["counts"]["count"] == {GENERATED: 10, ORACLE: 10, REFERENCE: 10}
    assert written["goals"] == {"count": "low", "count/first": "low"}
    assert written["origin"] == {"step": 7}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scores.json"]


def test_the_table_shows_scores_beside_the_oracle_with_their_meaning() -> None:
    x = noise(10, 1, 4)
    report = evaluate(x, x[:9], x, setting_of(x), {"count": Count()})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(report))
    shown = console.export_text()
    for text in (GENERATED, ORACLE, "count/first", "Number of samples", "9 samples against 10"):
        assert text in shown


def test_the_table_says_so_where_scores_are_of_different_numbers() -> None:
    x = noise(10, 1, 4)
    small = evaluate(x, x, x, setting_of(x), {"count": Count()})
    counts = {GENERATED: 50_000, ORACLE: 123}
    large = report_of("big", Count(), {GENERATED: {"": 1.0}}, counts)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table(join([small, large])))
    shown = console.export_text()
    assert "10, 10, 10" in shown
    assert "50,000, 123, –" in shown
    assert "compare it at equal n only" in shown


def test_a_reference_that_is_not_the_training_data_is_named() -> None:
    def shown(*reports) -> str:
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(table(join(reports)))
        return console.export_text()

    moments = report_of("a", Count(), {GENERATED: {"": 1.0}}, {GENERATED: 8}, "jit.npz")
    images = report_of("b", Count(), {GENERATED: {"": 1.0}}, {GENERATED: 8, REFERENCE: 5}, "cats")
    plain = report_of("c", Count(), {GENERATED: {"": 1.0}}, {GENERATED: 8, REFERENCE: 5})
    assert "8 samples against jit.npz" in shown(moments)
    assert "8 samples against 5 real ones of cats" in shown(images)
    for text in ("8, –, jit.npz", "8, –, 5 of cats", "8, –, 5 "):
        assert text in shown(moments, images, plain)
    assert "8, –, 5 of cats" in shown(images, plain)


def test_a_diverged_model_is_not_scored() -> None:
    x = noise(10, 1, 4)
    basis = setting_of(x)
    for value in (torch.nan, torch.inf):
        samples = x.clone()
        samples[3, 0, 1] = value
        with pytest.raises(UserError, match=r"1 of 10 generated samples .* diverged"):
            evaluate(samples, x, x, basis, evaluators())


def test_sets_that_cannot_be_compared_are_refused() -> None:
    x = noise(10, 1, 4)
    with pytest.raises(UserError, match="one shape"):
        evaluate(noise(10, 1, 5), x, x, setting_of(x), evaluators())
    with pytest.raises(UserError, match="Nothing to score"):
        evaluate(x[:0], x, x, setting_of(x), evaluators())


def test_an_evaluator_that_gives_nan_is_named() -> None:
    class Broken(Evaluator):
        def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
            return {"part": math.nan}

    x = noise(10, 1, 4)
    with pytest.raises(UserError, match="`broken` gives nan as `broken/part`"):
        evaluate(x, x, x, setting_of(x), {"broken": Broken()})
