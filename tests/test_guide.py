"""Weaker weights of a run guide its samples, from the command line and where a run is scored."""

import shutil

import numpy as np
import pytest
from runs import small_recipe, write_arrays

from rawdiff import results
from rawdiff.errors import UserError
from rawdiff.exchange.export import export
from rawdiff.recipe_file import load_recipe, write_recipe
from rawdiff.run import load, load_with
from rawdiff.train.start import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guided")
    x = np.random.default_rng(0).normal(size=(32, 1, 8, 8)).astype(np.float32)
    recipe = small_recipe(
        folder,
        write_arrays(folder, x=x),
        [4, 4],
        train={"num_steps": 40, "learning_rate": 1e-2},
        checkpoint={"every_steps": 20, "keep_last": 9},
    )
    return train(load_recipe(recipe), say=lambda text: None)


def drawn(run, folder, **keys: object) -> np.ndarray:
    overrides = [f"sample.{key}={value}" for key, value in keys.items()]
    overrides += ["sample.num_samples=4", "sample.weights=model"]
    results.sample_run(run.path, overrides, out=folder, say=lambda text: None)
    with np.load(next(folder.glob("*.npz"))) as file:
        return file["x"]


def test_a_guide_that_is_the_model_itself_changes_nothing(run, tmp_path):
    plain = drawn(run, tmp_path / "plain")
    itself = drawn(run, tmp_path / "itself", guide="model")
    earlier = drawn(run, tmp_path / "earlier", guide="model@20")
    assert np.abs(itself - plain).max() < 1e-4
    assert np.abs(earlier - plain).max() > 1e-2


@pytest.mark.parametrize(
    ("guide", "said"),
    [("model@now", "no step after the @"), ("power_9", "must lie between"), ("model@7", "step 7")],
)
def test_a_guide_that_is_not_there_is_named(run, guide, said):
    with pytest.raises(UserError, match=said):
        load_with(run.path, [f"sample.guide={guide}"], None, lambda text: None)


def test_an_export_has_no_guide_and_a_loaded_model_takes_none(run, tmp_path):
    guided = tmp_path / "guided"
    shutil.copytree(run.path, guided)
    recipe = load_recipe(guided / "recipe.yaml", ["sample.guide=model@20"])
    write_recipe(recipe, guided / "recipe.yaml")
    assert load(guided, say=lambda text: None).sampler.guide is not None
    export(guided, tmp_path / "export", say=lambda text: None)
    model = load(tmp_path / "export")
    assert model.sampler.guide is None
    with pytest.raises(UserError, match="settled when a model is loaded"):
        model.sample(2, guide="model")
