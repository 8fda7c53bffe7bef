"""Recipes: extending, overriding, errors that help, and the schema for editors."""

import itertools
import re
from pathlib import Path

import pytest
import yaml

from rawdiff.built_in import built_in_recipes
from rawdiff.errors import UserError
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import load_recipe, merge, read_recipe, write_recipe


def _write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return _write(
        tmp_path / "mine.yaml",
        """
        data: {name: array, path: x.npy}
        adapter: {name: grid, patch_size: [2, 2]}
        train: {num_steps: 10, batch_size: 4}
        """,
    )


@pytest.mark.parametrize("name", built_in_recipes())
def test_every_built_in_recipe_loads_and_comes_back_from_its_resolved_form(name, tmp_path) -> None:
    loaded = load_recipe(name)
    assert loaded.run_dir == Path("runs") / name
    write_recipe(loaded, tmp_path / "resolved.yaml")
    assert read_recipe(tmp_path / "resolved.yaml") == loaded


@pytest.mark.parametrize("name", [n for n in built_in_recipes() if n.startswith("imagenet")])
def test_a_recipe_says_source_hardware_expectation_and_a_command_that_names_it(name) -> None:
    lines = built_in_recipes()[name].read_text().split("\n")
    text = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    for word in ("Source:", "Hardware:", "Expected:"):
        assert word in text
    assert re.search(rf"Command: rawdiff (train|study) {name}\b", text)


def test_overrides_are_yaml_and_go_anywhere(recipe) -> None:
    loaded = load_recipe(
        recipe,
        [
            "train.num_steps=7",
            "train.learning_rate=2e-4",
            "train.ema=[{decay: 0.5}]",
            "data.labels=y.npy",
            "holdout.fraction=0.2",
            "train.clip_norm=null",
        ],
    )
    assert (loaded.train.num_steps, loaded.train.learning_rate) == (7, 2e-4)
    assert [ema.name for ema in loaded.train.ema] == ["decay_0.5"]
    assert loaded.data.labels == "y.npy"
    assert loaded.holdout.fraction == 0.2
    assert loaded.train.clip_norm is None
    assert loaded.run_dir == Path("runs/mine")


def test_a_recipe_extends_another_section_by_section(recipe) -> None:
    child = _write(recipe.parent / "child.yaml", "extends: mine.yaml\ntrain: {batch_size: 6}\n")
    grandchild = _write(
        recipe.parent / "third.yaml", "extends: child.yaml\nadapter: {name: images, patch_size: 4}"
    )
    assert load_recipe(child).train.batch_size == 6
    assert load_recipe(child).train.num_steps == 10
    assert type(load_recipe(grandchild).adapter).__name__ == "ImageAdapter"


def test_a_circle_of_recipes_is_found(tmp_path) -> None:
    _write(tmp_path / "a.yaml", "extends: b.yaml")
    _write(tmp_path / "b.yaml", "extends: a.yaml")
    with pytest.raises(UserError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.num_step=3"], "`train.num_step` is not a key; did you mean `num_steps`"),
        (["modle.width=3"], "`modle` is not a key; did you mean `model`"),
        (["data.pth=x"], "`data.pth` is not a key; did you mean `path`"),
        (["flow.noise_scale=x"], "`flow.noise_scale`: Input should be a valid number, "),
        (["evaluate.size=x"], "`evaluate.size`: must be a whole number, or must be a list"),
        (["data={name: digits, path: x}"], "`data.path` is not a key; there are none."),
        (["adapter.patch_sise=[1]"], "`adapter.patch_sise` is not a key"),
        (["data.name=aray"], "No plug-in `aray`.*Did you mean `array`"),
        (["train.batch_size=0"], "`train.batch_size`.*found 0"),
        (["train.micro_batch_size=3"], "batch_size 4 is not a multiple of micro_batch_size 3"),
        (["model.heads=5"], "cannot be shared by 5 heads.*heads: "),
        (["model.in_context_start=8"], "in_context_start 8"),
        (["sample.weights=decay_0.9"], "sample.weights `decay_0.9` is none of the run's"),
        (["sample.cfg_interval=[0.9,0.1]"], "cfg_interval"),
        (["standardization.mode=fixed"], "needs both"),
        (["holdout={}"], "either `fraction` or `data`"),
        (["train"], "not of the form key=value"),
        (["train.ema=[{decay: 0.9}, {decay: 0.9}]"], "two EMAs are the same"),
        (["train=3"], "`train`: must be a section"),
        (["train.num_steps=1.5"], "must be a whole number"),
        (["train.num_steps=0"], "`train.num_steps`"),
        (
            ["evaluate.evaluators.frechet.num_componets=3"],
            "`evaluate.evaluators.frechet.num_componets` is not a key; did you mean `num_comp",
        ),
        (
            ["evaluate.evaluators={frechet: {num_components: 0}}"],
            r"`evaluate.evaluators.frechet.num_components`: .* \(found 0\)",
        ),
        (["evaluate.evaluators={frechet: 3}"], "`evaluate.evaluators.*: must be a section"),
        (["holdout.data.pth=x"], "`holdout.data.pth` is not a key; did you mean `path`"),
        (["sample.weights=decay_0.9"], "^The recipe .* cannot be used:\n  - sample.weights `dec"),
        (["flow.loss=y", "data.pth=x"], r"`data.pth` is not a key; .*\n  - `flow.loss`: (?!.*\n)"),
        (["evaluate.evaluators={freche: {}}"], "Did you mean `frechet`"),
        (
            ["sample.writer={name: png, clas_folders: true}"],
            "`sample.writer.clas_folders` is not a key; did you mean `class_folders`",
        ),
        (["extends=[a, b]"], "`extends` is not a key"),
    ],
)
def test_what_is_wrong_is_named_with_its_cure(recipe, overrides, message) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(recipe, overrides)


def test_a_size_decides_over_what_was_inherited(recipe) -> None:
    child = _write(
        recipe.parent / "small.yaml", "extends: mine.yaml\nmodel: {width: 64, depth: 3, heads: 2}"
    )
    for loaded in (
        load_recipe(child, ["model.size=B"]),
        load_recipe(_write(recipe.parent / "b.yaml", "extends: small.yaml\nmodel: {size: B}")),
    ):
        assert (loaded.model.width, loaded.model.depth, loaded.model.heads) == (768, 12, 12)
    assert load_recipe(child, ["model.size=B", "model.depth=6"]).model.depth == 6


def test_a_section_may_begin_as_a_bare_name() -> None:
    assert merge({"model": "mlp"}, {"model": {"width": 3}}) == {
        "model": {"name": "mlp", "width": 3}
    }
    assert merge({"adapter": "grid"}, {"adapter": {"name": "images"}}) == {
        "adapter": {"name": "images"}
    }


def test_a_size_of_another_network_decides_over_nothing() -> None:
    own = {"name": "mine", "width": 8, "size": 1}
    assert merge({"model": own}, {"model": {"size": 2}}) == {"model": own | {"size": 2}}


def test_a_key_that_is_given_twice_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="`seed` is given twice"):
        load_recipe(_write(tmp_path / "twice.yaml", "seed: 1\nseed: 2\n"))


def test_home_is_expanded(recipe) -> None:
    loaded = load_recipe(recipe, ["run_dir=~/runs/a", "data.path=~/x.npy"])
    assert loaded.run_dir == Path.home() / "runs" / "a"
    assert loaded.data.path == Path.home() / "x.npy"


def test_all_mistakes_are_listed_at_once(recipe) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, ["train.num_step=1", "data.pth=x", "flow.noise=2"])
    assert all(key in str(caught.value) for key in ("train.num_step", "data.pth", "flow.noise"))


def test_a_recipe_that_is_not_there_is_told_its_nearest(tmp_path) -> None:
    with pytest.raises(UserError, match="Did you mean `demo`"):
        load_recipe("demos")
    with pytest.raises(UserError, match="is a folder"):
        load_recipe(tmp_path)
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(_write(tmp_path / "broken.yaml", "a: [1,"))
    with pytest.raises(UserError, match="must hold `key: value`"):
        load_recipe(_write(tmp_path / "list.yaml", "- 1"))


def test_a_resolved_recipe_is_plain_yaml(recipe) -> None:
    plain = load_recipe(recipe).plain()
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(plain))).plain() == plain
