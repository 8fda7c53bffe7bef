"""Completion of the command line in a shell; what is asked at each key press waits for no torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from argcomplete import autocomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from rawdiff.built_in import built_in_recipes, recipe_folder
from rawdiff.cli.terminal import put

SCHEMA, RUN_MARK = "recipe.schema.json", "recipe.yaml"
ASKED = "_ARGCOMPLETE"
"""Is in the environment where a shell asks."""
LOAD_COMPDEF = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"
"""zsh knows `compdef` only where its completion was started before."""
SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")


def do_completion(args: argparse.Namespace) -> None:
    script = shellcode(["rawdiff"], shell=args.shell) + "\n"
    first = "#compdef rawdiff\n"
    put(script.replace(first, first + LOAD_COMPDEF, 1) if args.shell == "zsh" else script)


def answer(parser: argparse.ArgumentParser, parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Tell the shell what may come next, and end the process. `parsers` are those of commands."""
    for command in parsers.values():
        of_arguments = {"recipe": recipes, "run": runs}
        for action in command._actions:
            if action.dest in of_arguments:
                action.completer = of_arguments[action.dest]  # type: ignore[attr-defined]
                of_arguments["overrides"] = keys
    autocomplete(parser, always_complete_options=False)


def recipes(prefix: str, **_: Any) -> list[str]:
    """Names of those that come with rawdiff, and YAML files."""
    return [*built_in_recipes(), *FilesCompleter(("yaml", "yml"))(prefix)]


def runs(prefix: str, **_: Any) -> list[str]:
    """Folders of runs here and in `runs/`, else any folder."""
    here = [str(path.parent) for path in sorted(Path().glob(f"*/{RUN_MARK}"))]
    here += [str(path.parent) for path in sorted(Path("runs").glob(f"*/{RUN_MARK}"))]
    found = [folder for folder in here if folder.startswith(prefix)]
    return found or list(DirectoriesCompleter()(prefix))


def keys(prefix: str, **_: Any) -> list[str]:
    """Of a recipe, one level at a time: `train.`, then `train.precision=`, then its values."""
    schema = json.loads((recipe_folder() / SCHEMA).read_text(encoding="utf-8"))
    name, equals, _value = prefix.partition("=")
    *sections, _last = name.split(".")
    node = schema
    for section in sections:
        node = _properties(schema, node).get(section, {})
    before = "".join(f"{section}." for section in sections)
    if equals:
        chosen = _properties(schema, node).get(name.split(".")[-1], {})
        return [f"{name}={value}" for value in _values(schema, chosen)]
    found = [
        before + key + ("." if _properties(schema, value) else "=")
        for key, value in _properties(schema, node).items()
    ]
    found = [key for key in found if key.startswith(prefix)]
    # A shell ends what it finds alone with a space: right for a value, not for a section.
    return keys(found[0]) if len(found) == 1 and found[0].endswith(".") else found


def _alternatives(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that may stand here, references followed."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    yield node
    for kind in ("anyOf", "oneOf", "allOf"):
        for other in node.get(kind, ()):
            yield from _alternatives(schema, other)


def _properties(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in _alternatives(schema, node):
        for key, value in one.get("properties", {}).items():
            both = [*found.get(key, {}).get("anyOf", ()), value]  # of plug-ins that share a key
            found[key] = {"anyOf": both}
    return found


def _values(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[str]:
    """Those that a key may take, where they are a few words."""
    for one in _alternatives(schema, node):
        values = [*one.get("enum", ()), *([one["const"]] if "const" in one else ())]
        yield from (str(value) for value in values if isinstance(value, str))
        if one.get("type") == "boolean":
            yield from ("true", "false")
