"""Recipes on disk: YAML with `extends:`, `key=value` overrides, and errors that help."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rawdiff.built_in import built_in_recipes
from rawdiff.errors import UserError
from rawdiff.explain import WrongKeysError, explain
from rawdiff.files import write_text
from rawdiff.model.settings import SIZES
from rawdiff.plugins import DEFAULTS, Kind, load_plugin, make_plugin, missing_words
from rawdiff.recipe import Recipe

PLUGIN_SECTIONS: dict[str, Kind] = {
    "data": "datasets",
    "adapter": "adapters",
    "model": "networks",
}
ENVIRONMENT, PLUGINS = "environment.json", "plugins"
"""Where a run says which packages brought plug-ins to it."""
DEFAULT_NAMES = {section: DEFAULTS.get(kind) for section, kind in PLUGIN_SECTIONS.items()}


def find_recipe(name: str | Path, relative_to: Path | None = None) -> Path:
    """The file of a recipe given by path or, for those that come with rawdiff, by name."""
    path = Path(name).expanduser()
    candidates = [path] if relative_to is None else [relative_to / path, path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    built_in = built_in_recipes()
    # `recipes/demo.yaml` names a built-in recipe from an installed wheel, too.
    if path.stem in built_in and path.parent in (Path(), Path("recipes")):
        return built_in[path.stem]
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the recipe's YAML file.")
    near = difflib.get_close_matches(path.stem, built_in, n=1, cutoff=0.5)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    raise UserError(
        f"There is no recipe {name}: neither such a file nor one of the built-in recipes "
        f"({', '.join(built_in)}).{hint}"
    )


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, to which a key that is given twice is a mistake."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"`{twice[0]}` is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. UserError where it is not one."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines, but holds {content!r:.60}.")
    return content


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, section by section.

    Another plug-in's section replaces it whole; `model.size` takes all that it decides from `base`.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if key in PLUGIN_SECTIONS and isinstance(old, str):
            old = {"name": old}  # as `build_plugin` reads it
        if isinstance(old, dict) and isinstance(value, dict):
            default = DEFAULT_NAMES.get(key)
            before = old.get("name", default)
            if key == "model" and before == default and value.get("size") is not None:
                old = {name: item for name, item in old.items() if name not in SIZES["H"]}
            other = "name" in value and value["name"] != before
            merged[key] = value if other else merge(old, value)
        else:
            merged[key] = value
    return merged


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path} extends itself: {' -> '.join(p.name for p in (*seen, path))}.")
    content = read_yaml(path)
    parent = content.pop("extends", None)
    if parent is None:
        return content
    if not isinstance(parent, str):
        raise UserError(f"{path}: `extends` names one recipe, found {parent!r:.60}.")
    parent_path = find_recipe(parent, relative_to=path.parent)
    return merge(_extended(parent_path, (*seen, path.resolve())), content)


def apply_override(content: dict[str, Any], override: str) -> dict[str, Any]:
    """`train.num_steps=100` on top of a recipe; values are YAML."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise UserError(f"`{override}` is not of the form key=value, such as train.num_steps=100.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"The value of `{override}` is not valid YAML: {error}\n"
            "Put the whole argument in quotes if it has spaces."
        ) from error
    return with_value(content, key.strip(), value)


def with_value(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A recipe with a dotted key, such as `train.num_steps`, laid over it."""
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return merge(content, nested)


def load_content(name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe as plain data, extended and overridden, not yet validated."""
    path = find_recipe(name)
    content = {"run_dir": f"runs/{path.stem}"} | _extended(path)
    for override in overrides:
        content = apply_override(content, override)
    return content


def read_grid_argument(argument: str) -> tuple[str, list[Any]]:
    """`train.betas=[0.9,0.95],[0.9,0.99]` to the key and its values, at least one.

    Values are YAML; commas inside brackets, braces and quotes do not separate.
    """
    key, separator, text = argument.partition("=")
    if not separator or not key.strip():
        raise UserError(
            f"`--grid {argument}` is not of the form key=value,value, such as flow.loss=x,v."
        )
    try:
        values = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError as error:
        raise UserError(
            f"The values of `--grid {argument}` are not YAML separated by commas: {error}\n"
            "Put the whole argument in quotes if it has spaces or brackets."
        ) from error
    if not values:
        raise UserError(f"`--grid {argument}` has no values.")
    return key.strip(), values


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, extend, override and validate a recipe.

    Raises UserError that lists every key that is wrong, with the nearest right one.
    """
    return parse_recipe(load_content(name, overrides), str(name))


def parse_recipe(content: dict[str, Any], source: str) -> Recipe:
    """Validate plain data as a recipe; `source` stands in error messages.

    Where a plug-in is not there any more, the package is named that brought it to the run.
    """
    try:
        return _parsed(content, source)
    except UserError as error:
        folders = [Path(source).parent, Path(str(content.get("run_dir", ".")))]
        brought = {line for folder in folders for line in _brought(folder, str(error))}
        if brought:
            raise UserError("\n".join([str(error), *sorted(brought)])) from error
        raise


def _brought(folder: Path, problem: str) -> Iterator[str]:
    """Packages whose plug-ins are missing now; `folder` may be a run's, that says what it used."""
    try:
        environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        recorded = environment[PLUGINS].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for kind, packages in recorded:
        for name, package in packages.items():
            if missing_words(kind, name) in problem:
                yield f"{folder} was made with `{name}` of {package}: install that package again."


def _parsed(content: dict[str, Any], source: str) -> Recipe:
    problems: list[str] = []
    broken: set[str] = set()  # sections whose problems are known, and no others of theirs
    content = dict(content)
    for section, kind in PLUGIN_SECTIONS.items():
        value = content.get(section)
        name = value.get("name", DEFAULTS.get(kind)) if isinstance(value, dict) else None
        if isinstance(value, dict) and name is not None:
            keys = {key: item for key, item in value.items() if key != "name"}
            try:
                content[section] = make_plugin(kind, str(name), keys)
            except ValidationError as error:
                problems += explain(error, load_plugin(kind, str(name)), (section,))
                broken.add(section)
                del content[section]
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        problems += explain(error, Recipe, without=broken)
        raise _recipe_error(source, problems) from None
    if problems:
        raise _recipe_error(source, problems)
    try:
        holdout = recipe.holdout_data  # its keys are checked when it is made
    except WrongKeysError as error:
        found = explain(error.error, error.plugin, ("holdout", "data"))
        raise _recipe_error(source, found) from None
    if holdout is not None and type(holdout) is not type(recipe.data):
        raise UserError(f"{source}: `holdout.data` must be of the same kind as `data`.")
    return recipe


def _recipe_error(source: str, problems: list[str]) -> UserError:
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return UserError(f"The recipe {source} cannot be used:\n{lines}")


def write_recipe(recipe: Recipe, path: Path) -> None:
    write_text(path, yaml.safe_dump(recipe.plain(), sort_keys=False))


def read_recipe(path: Path) -> Recipe:
    """A resolved recipe, as a run or an export keeps it."""
    return parse_recipe(read_yaml(path), str(path))
