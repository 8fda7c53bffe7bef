"""A grid of keys becomes recipes, or an error that names what is wrong."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import small_recipe, write_arrays

from rawdiff.errors import UserError
from rawdiff.recipe_file import load_recipe
from rawdiff.study.cells import make_cells, parse_grid, short_names
from rawdiff.study.runner import places

SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text("abc, x[]{}:#'=", max_size=6)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner)
)


@pytest.fixture
def recipe(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 1, 8)).astype(np.float32)
    return small_recipe(tmp_path, write_arrays(tmp_path, x=x), [2], holdout={"fraction": 0.2})


def cells(recipe, *grid, overrides=()):
    return make_cells(recipe, parse_grid(grid), overrides, recipe.parent / "out")


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_values_are_yaml_whatever_brackets_and_commas_they_hold(values) -> None:
    text = ",".join(json.dumps(value) for value in values)
    (key,) = parse_grid([f"a.b={text}"])
    assert key.key == "a.b"
    assert list(key.values) == values


def test_values_are_written_as_on_the_command_line() -> None:
    assert parse_grid(["train.betas=[0.9,0.95],[0.9,0.99]"])[0].values == ([0.9, 0.95], [0.9, 0.99])
    assert parse_grid(["model.bottleneck=16,128,null"])[0].values == (16, 128, None)
    assert parse_grid(["flow.loss=x,eps,v"])[0].values == ("x", "eps", "v")


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ([], "at least one"),
        (["flow.loss"], "not of the form"),
        (["=x,v"], "not of the form"),
        (["flow.loss="], "no values"),
        (["flow.loss=[x,v"], "not YAML"),
        (["run_dir=a,b"], "--out"),
        (["flow.loss=x", "flow.loss=v"], "overlap"),
        (["model.width=32", "model={depth: 2}"], "overlap"),
    ],
)
def test_what_is_no_grid_is_refused(grid, words) -> None:
    with pytest.raises(UserError, match=words):
        parse_grid(grid)


def test_every_combination_is_a_cell_and_differs_in_the_grid_alone(recipe) -> None:
    made = cells(recipe, "flow.prediction=x,eps,v", "flow.loss=x,v", overrides=["seed=7"])
    assert [(c.recipe.flow.prediction, c.recipe.flow.loss) for c in made] == [
        (prediction, loss) for prediction in ("x", "eps", "v") for loss in ("x", "v")
    ]
    base = load_recipe(recipe, ["seed=7"]).plain()
    for cell in made:
        own = cell.recipe.plain()
        assert own["flow"] | {"prediction": "x", "loss": "v"} == base["flow"]
        assert own | {"flow": 0, "run_dir": 0} == base | {"flow": 0, "run_dir": 0}
    assert len({cell.run for cell in made}) == 6


def test_a_cell_keeps_its_folder_whatever_cells_and_order_of_keys_are_around(recipe) -> None:
    few = cells(recipe, "flow.prediction=x", "model.bottleneck=null,4")
    more = cells(recipe, "model.bottleneck=8,4,null", "flow.prediction=v,x")
    assert {cell.name for cell in few} < {cell.name for cell in more}
    assert few[0].name == "prediction-x_bottleneck-null"


def test_long_and_strange_values_have_folders_of_their_own(recipe) -> None:
    paths = [f"/some/long/folder/with/a/name/that/goes/on/{i}/data.npz" for i in range(2)]
    names = [cell.name for cell in cells(recipe, f"data.path={','.join(paths)}")]
    assert len(set(names)) == 2
    assert all("/" not in name and len(name) < 60 for name in names)
    betas = cells(recipe, "train.betas=[0.9,0.95],[0.9,0.99]")
    assert betas[0].name == "betas-0.9x0.95"


@pytest.mark.parametrize(
    ("grid", "overrides", "words"),
    [
        (["flow.los=x,v"], [], "with flow.los=x.*did you mean `loss`"),
        (["flow.loss=x,w"], [], "with flow.loss=w"),
        (["train.batch_size=8,6"], ["train.micro_batch_size=4"], "with train.batch_size=6"),
        (["flow.loss=x,v,x"], [], "same"),
        (["train.learning_rate=1e-3,0.001"], [], "same"),
        (["flow.loss=x,v"], ["flow.loss=x"], "give one of both"),
        (["flow.loss=x,v"], ["flow={prediction: x}"], "give one of both"),
        (["flow={loss: x},{loss: v}"], ["flow.prediction=x"], "give one of both"),
        (["flow.loss=x,v"], ["run_dir=here"], "--out"),
    ],
)
def test_a_wrong_cell_is_named_before_anything_begins(recipe, grid, overrides, words) -> None:
    with pytest.raises(UserError, match=f"(?s){words}"):
        cells(recipe, *grid, overrides=overrides)
    assert not (recipe.parent / "out").exists()


def test_names_are_short_where_that_is_clear() -> None:
    assert short_names(["flow.loss", "sample.num_steps", "train.num_steps"]) == {
        "flow.loss": "loss",
        "sample.num_steps": "sample.num_steps",
        "train.num_steps": "train.num_steps",
    }


def test_each_cell_has_a_gpu_or_its_share_of_the_processor(recipe, monkeypatch) -> None:
    four = cells(recipe, "seed=1,2,3,4", overrides=["train.device=auto"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert places(four, None) == [{}]
    assert places(four, 2) == [{"OMP_NUM_THREADS": "3"}] * 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert places(four, None) == [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in "57"]
    assert places(four, 3) == [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in "575"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert places(four[:1], None) == [{"CUDA_VISIBLE_DEVICES": "0"}]
    assert places(cells(recipe, "seed=1,2"), None) == [{}]
