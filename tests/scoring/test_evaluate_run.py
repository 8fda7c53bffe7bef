"""What is scored: new samples beside real ones that training never saw."""

import json

import numpy as np
import pytest
import torch
from runs import small_recipe, write_arrays

from rawdiff import results
from rawdiff.cli.main import main
from rawdiff.evaluate.evaluator import Evaluator
from rawdiff.recipe_file import load_recipe
from rawdiff.sampling import Sampler
from rawdiff.train.start import train

SEEN = []


class Spy(Evaluator):
    def score(self, samples, reference, setting):
        SEEN.append((samples, reference, setting))
        return {"": float(len(SEEN))}


@pytest.fixture
def run(tmp_path):
    """Sample i is i everywhere, so that it can be told apart; some values are missing."""
    x = np.tile(np.arange(40, dtype=np.float32)[:, None, None], (1, 1, 8))
    x[::3, :, 0] = np.nan
    data = write_arrays(tmp_path, x=x, labels=np.arange(40) % 4)
    recipe = small_recipe(tmp_path, data, [2], train={"num_steps": 2}, holdout={"fraction": 0.25})
    return train(load_recipe(recipe), say=lambda text: None)


def test_generated_and_real_held_out_samples_are_scored_alike(run, monkeypatch) -> None:
    SEEN.clear()
    monkeypatch.setattr(results, "choose_evaluators", lambda recipe, metrics, info: {"spy": Spy()})
    asked = []
    draw = Sampler.draw
    monkeypatch.setattr(
        Sampler, "draw", lambda sampler, *args: asked.append(args) or draw(sampler, *args)
    )
    results.evaluate_run(run.path, ["sample.seed=7"], say=lambda text: None)
    (generated, reference, setting), (held_out, reference_again, _) = SEEN
    assert len(generated) == len(held_out) == 10
    assert torch.equal(generated.isnan(), held_out.isnan())
    assert held_out.isnan().any()
    assert torch.equal(reference.nan_to_num(-1), reference_again.nan_to_num(-1))
    real, trained = held_out[:, 0, 1].tolist(), reference[:, 0, 1].tolist()
    assert sorted(real + trained) == list(range(40))  # nothing is in both
    assert not set(generated[:, 0, 1].tolist()) & set(range(40))
    ((index, conditions, settings),) = asked
    assert (index.tolist(), settings.seed) == (list(range(10)), 7)
    assert conditions.label.tolist() == [int(value) % 4 for value in real]
    assert float(setting.mean[0]) == pytest.approx(float(reference.nanmean()), rel=1e-4)
    written = json.loads((run.path / "scores.json").read_text())
    assert written["scores"] == {"spy": {"generated": 1.0, "real held-out": 2.0}}
    assert written["origin"]["step"] == 2
    assert written["origin"]["weights"] == "power_0.1"
    assert written["origin"]["sample"]["seed"] == 7


def test_other_data_under_the_same_path_are_not_scored(run, capsys) -> None:
    recipe = run.recipe()
    x = np.zeros((80, 1, 8), dtype=np.float32)
    write_arrays(recipe.data.path.parent, x=x, labels=np.arange(80) % 4)
    assert main(["eval", str(run.path)]) == 2
    assert "num_train_samples: 30 there, 60 now" in capsys.readouterr().err
