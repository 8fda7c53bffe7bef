"""Plug-ins, found by entry points: the built-in ones take the same road as a stranger's package."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationError,
)
from pydantic_core import CoreSchema

from rawdiff.errors import UserError
from rawdiff.explain import WrongKeysError

Kind = Literal[
    "adapters",
    "datasets",
    "networks",
    "evaluators",
    "writers",
    "formats",
    "templates",
    "operators",
    "methods",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULTS: dict[Kind, str] = {"networks": "transformer"}
"""What a section without `name:` means."""


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name in recipes, the object behind it, the package that brings it."""

    kind: Kind
    name: str
    target: str
    package: str


@cache
def _entry_points(kind: Kind) -> dict[str, list[EntryPoint]]:
    """By name; more than one where packages bring different things under the same name."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=f"rawdiff.{kind}"), key=lambda p: (p.name, p.value)):
        same_name = found.setdefault(point.name, [])
        if point.value not in (other.value for other in same_name):
            same_name.append(point)
    return found


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"


def plugins(kind: Kind) -> list[Plugin]:
    """All plug-ins of a kind by name, without importing any of them."""
    return [
        Plugin(kind, name, point.value, _package(point))
        for name, points in _entry_points(kind).items()
        for point in points
    ]


def load_plugin(kind: Kind, name: str) -> Any:
    """The class behind a plug-in's name.

    Raises UserError if there is none of that name, or if importing it fails.
    """
    points = _entry_points(kind)
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1, cutoff=0.5)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise UserError(
            f"{missing_words(kind, name)}; there are: {', '.join(sorted(points))}.{hint} "
            "A plug-in of your own needs its entry point installed (`pip install -e .`)."
        )
    point, *rivals = points[name]
    if rivals:
        both = " and ".join(f"{_package(p)} ({p.value})" for p in points[name])
        raise UserError(
            f"Two packages bring a plug-in `{name}` in rawdiff.{kind}: {both}. "
            "Uninstall one of them, or rename the entry point of your own."
        )
    try:
        return point.load()
    except Exception as error:
        raise UserError(
            f"{_origin(kind, name)} cannot be imported: {type(error).__name__}: {error}. Mend or "
            "uninstall that package."
        ) from error


def missing_words(kind: str, name: str) -> str:
    """How the error begins of a plug-in that is not there."""
    return f"No plug-in `{name}` in rawdiff.{kind}"


def make_plugin(kind: Kind, name: str, keys: Mapping[str, Any]) -> Any:
    """The settings object of a plug-in.

    ValidationError for wrong keys; UserError for a plug-in that is not there, or is none.
    """
    target = load_plugin(kind, name)
    try:
        made = target(**keys)
    except TypeError as error:
        raise UserError(f"{_origin(kind, name)} cannot be used: {error}.") from error
    if not isinstance(made, BaseModel):
        raise UserError(
            f"{_origin(kind, name)} cannot be used: it must be a class that derives from the one "
            f"of its kind, but makes a {type(made).__name__}."
        )
    return made


def _origin(kind: Kind, name: str) -> str:
    """In words: which plug-in, of which package."""
    point = _entry_points(kind)[name][0]
    return f"Plug-in `{name}` of {_package(point)} (rawdiff.{kind}: {point.value})"


def plugins_of_others() -> dict[str, dict[str, str]]:
    """Names and packages of plug-ins that rawdiff does not bring itself, by kind."""
    found: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        for plugin in plugins(kind):
            if plugin.package.split()[0] != "rawdiff":
                found.setdefault(kind, {})[plugin.name] = plugin.package
    return found


def plugin_name(kind: Kind, target: type) -> str:
    """The name under which a class is registered, for messages and saved files."""
    value = f"{target.__module__}:{target.__qualname__}"
    for plugin in plugins(kind):
        if plugin.target == value:
            return plugin.name
    raise UserError(
        f"{value} is not registered in the entry-point group rawdiff.{kind}. Add it to the "
        "pyproject.toml of its package and install that package, so that a run can be loaded again."
    )


def described(kind: Kind, target: type) -> str:
    """In words, for messages: `` `ecg` of rawdiff-ecg 0.1 ``; the class alone if not registered."""
    value = f"{target.__module__}:{target.__qualname__}"
    found = (plugin for plugin in plugins(kind) if plugin.target == value)
    plugin = next(found, None)
    return target.__name__ if plugin is None else f"`{plugin.name}` of {plugin.package}"


def build_plugin(kind: Kind, section: Any) -> Any:
    """`{name: grid, patch_size: [4]}` to the settings object of that plug-in; so is a bare name.

    ValueError without a name, UserError for one that does not exist, WrongKeysError for its keys.
    """
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, dict):
        return section
    keys = {key: value for key, value in section.items() if key != "name"}
    if (name := section.get("name", DEFAULTS.get(kind))) is None:
        raise ValueError(f"`name:` is missing; it says which of the {kind} is meant")
    try:
        return make_plugin(kind, name, keys)
    except ValidationError as error:
        raise WrongKeysError(error, load_plugin(kind, name)) from error


def plugin_section(kind: Kind, plugin: BaseModel) -> dict[str, Any]:
    """The inverse of `build_plugin`, as plain data for YAML and JSON."""
    return {"name": plugin_name(kind, type(plugin)), **plugin.model_dump(mode="json")}


@dataclass(frozen=True)
class PluginSchema:
    """The JSON schema of a field that holds a plug-in: of each that is installed, or its name.

    With `by_name` the field maps names of plug-ins to their keys.
    """

    kind: Kind
    by_name: bool = False

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        loaded = {plugin.name: load_plugin(self.kind, plugin.name) for plugin in plugins(self.kind)}
        keys = {name: handler(found.__pydantic_core_schema__) for name, found in loaded.items()}
        if self.by_name:
            return {"type": "object", "properties": keys, "additionalProperties": False}
        for name, reference in keys.items():
            section = handler.resolve_ref_schema(reference)
            section["properties"] = {"name": {"const": name}} | section.get("properties", {})
        choices = [*keys.values(), {"enum": [*keys]}]
        if {"type": "null"} in handler(core_schema).get("anyOf", ()):
            choices.append({"type": "null"})
        default = {"default": DEFAULTS[self.kind]} if self.kind in DEFAULTS else {}
        return {"anyOf": choices, **default}


def plugin_field(kind: Kind) -> tuple[BeforeValidator, PlainSerializer, PluginSchema]:
    """What makes a field of settings hold a plug-in: `Annotated[Adapter, *plugin_field(…)]`."""
    return (
        BeforeValidator(lambda section: build_plugin(kind, section)),
        PlainSerializer(lambda plugin: None if plugin is None else plugin_section(kind, plugin)),
        PluginSchema(kind),
    )
