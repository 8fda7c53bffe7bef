"""A run of two steps to be scored, and what is drawn of it."""

import shutil

import numpy as np
import pytest
from runs import small_recipe, write_arrays

from rawdiff.recipe_file import load_recipe
from rawdiff.sampling import Sampler
from rawdiff.train.start import train


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
