"""Every key of a recipe is described once, where it is declared; editors and the docs have that."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from rawdiff import keys
from rawdiff.built_in import built_in_recipes, recipe_folder
from rawdiff.cli.main import main
from rawdiff.schema import full_schema, recipe_schema

ROOT = Path(__file__).parents[2]
SECTIONS = keys.sections()
EVERY = [(section, key) for section in SECTIONS for key in section.keys]
EDITOR = jsonschema.Draft202012Validator(recipe_schema())


def test_every_key_has_a_description() -> None:
    assert len(EVERY) > 250
    assert [f"{s.title}.{key.name}" for s, key in EVERY if len(key.meaning) < 5] == []


def test_every_number_has_a_unit_and_nothing_else_has_one() -> None:
    wrong = [
        f"{section.title}.{key.name}: [{key.unit}] of {key.allowed}"
        for section, key in EVERY
        if bool(re.search(r"(?<!, )number", key.allowed)) != bool(key.unit)
    ]
    assert wrong == []


def test_every_key_says_its_default_and_what_is_allowed() -> None:
    """Only a section has no default of its own."""
    assert [key for _, key in EVERY if not key.allowed] == []
    assert [key for _, key in EVERY if not key.default and "keys" not in key.allowed] == []
    found = {(section.title, key.name): key for section, key in EVERY}
    assert found["train", "num_steps"].default == "required"
    assert found["train", "num_steps"].allowed == "whole number ≥ 1"
    assert found["train", "ema"].default == "[{power: 0.1}]"
    assert found["checkpoint", "every_steps"].allowed == "whole number ≥ 1 or auto"
    assert found["sample.observe", "operator"].default == "{name: mask}"
    assert found["flow", "loss"].allowed == "x, eps, v"


def test_the_page_of_all_keys_is_up_to_date() -> None:
    page = (ROOT / "docs" / "keys.md").read_text()
    assert page == keys.as_markdown(SECTIONS), "run `rawdiff keys --markdown > docs/keys.md`"


def test_keys_are_found_by_section_plug_in_and_name(capsys) -> None:
    for words in (["sample.cfg_scale"], ["sample", "cfg_scale"], ["cfg_scale"]):
        (section,) = keys.chosen(words)
        assert [key.name for key in section.keys] == ["cfg_scale"]
    assert {section.title for section in keys.chosen(["data", "array"])} == {"data: array"}
    assert "sample.observe.method: mmps" in {s.title for s in keys.chosen(["sample.observe"])}
    assert main(["keys", "train.num_step"]) == 2
    assert "Did you mean `num_steps`?" in capsys.readouterr().err
    assert main(["keys"]) == main(["keys", "data: array"]) == 0
    assert "Array [n] of classes" in " ".join(capsys.readouterr().out.split())


def test_the_schema_for_editors_is_up_to_date(tmp_path) -> None:
    stored = recipe_folder() / "recipe.schema.json"
    assert main(["schema", str(tmp_path / "own.json")]) == 0
    assert (tmp_path / "own.json").read_text() == stored.read_text(), (
        "run `rawdiff schema recipes/recipe.schema.json`"
    )


@pytest.mark.parametrize("path", built_in_recipes().values(), ids=lambda path: path.stem)
def test_editors_find_the_schema_of_each_recipe_and_nothing_wrong_in_it(path) -> None:
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=recipe.schema.json"
    assert (path.parent / "recipe.schema.json").is_file()
    assert [error.json_path for error in EDITOR.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize(
    "recipe",
    [
        "data: digits",
        "data: {name: array, path: x.npy}",
        "adapter: {patch_size: [4, 4]}",  # of a recipe that extends another
        "sample: {template: {name: chains, lengths: [60]}}",
        "sample: {template: null, writer: png}",
        "sample: {observe: {file: y.npy, operator: {name: coarsen, factor: 4}}}",
        "evaluate: {evaluators: {frechet: {num_components: 8}, seam: {}}}",
    ],
)
def test_editors_take_what_rawdiff_takes(recipe) -> None:
    assert EDITOR.is_valid(yaml.safe_load(recipe))


@pytest.mark.parametrize(
    "recipe",
    [
        "train: {num_step: 5}",
        "data: {name: aray, path: x.npy}",
        "data: {name: digits, path: x.npy}",
        "adapter: {name: images, patchsize: 4}",
        "sample: {template: {name: chains, length: [60]}}",
        "sample: {observe: {operator: {name: coarsen, factors: 4}}}",
        "evaluate: {evaluators: {frechet: {components: 8}}}",
    ],
)
def test_editors_show_misspelt_keys_and_names_of_all_plug_ins(recipe) -> None:
    assert not EDITOR.is_valid(yaml.safe_load(recipe))


def test_the_full_schema_says_what_is_required() -> None:
    assert set(full_schema()["required"]) == {"run_dir", "data", "adapter", "train"}
    assert '"required"' not in json.dumps(EDITOR.schema)
