"""What each command for those who write a plug-in does: `new`, `check-adapter`, `check-dataset`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import yaml
from rich.table import Table

from rawdiff.adapter import Adapter
from rawdiff.assemble import PACKED_FOLDER
from rawdiff.cli.terminal import console
from rawdiff.data.dataset import Dataset
from rawdiff.errors import UserError
from rawdiff.explain import WrongKeysError, explain
from rawdiff.new.package import new_adapter
from rawdiff.plugins import Kind, build_plugin
from rawdiff.recipe_file import apply_override
from rawdiff.testing.adapter import judge_adapter
from rawdiff.testing.dataset import judge_dataset
from rawdiff.testing.promise import Verdict

BROKEN = 1
"""Exit code."""


def do_new(args: argparse.Namespace) -> None:
    folder = new_adapter(args.name, args.folder)
    console.print(
        f"{folder} is a package with an adapter, a dataset, a recipe and tests. Next:\n"
        f"  pip install -e {folder if folder.is_absolute() else f'./{folder}'}\n"
        f"  rawdiff train {folder / args.name}.yaml",
        markup=False,
    )


def do_check_adapter(args: argparse.Namespace) -> int:
    """0 if every promise is kept, else BROKEN."""
    adapter: Adapter = _plugin("adapters", args.name, args.overrides)
    if (args.shape is None) == (args.data is None):
        raise UserError(
            "Which samples is it to cut? Give their shape, channels first, such as "
            "`--shape 3,64,64`, or the dataset that they come from, `--data NAME`."
        )
    if args.data is None:
        return _report(judge_adapter(adapter, _shape(args.shape)))
    info = _section("datasets", args.data).info
    return _report(judge_adapter(adapter, info.shape, info.coordinates))


def do_check_dataset(args: argparse.Namespace) -> int:
    """0 if every promise is kept, else BROKEN."""
    dataset: Dataset = _plugin("datasets", args.name, args.overrides)
    adapter = None if args.adapter is None else _section("adapters", args.adapter)
    own_copy = dataset.packed(PACKED_FOLDER)  # of one that is read only when it was packed
    return _report(judge_dataset(dataset if own_copy is None else own_copy, adapter))


def _report(verdicts: Sequence[Verdict]) -> int:
    table = Table("promise", "", "found", box=None, pad_edge=False)
    for verdict in verdicts:
        lines = [*verdict.breaches, *verdict.notes]
        if verdict.waits_for is not None:
            lines = [f"not looked at: mend `{verdict.waits_for}` first"]
        mark = "kept" if verdict.kept else "BROKEN" if verdict.breaches else "-"
        table.add_row(f"{verdict.name}: {verdict.text}", mark, "\n".join(lines))
    console.print(table, markup=False)
    return 0 if all(verdict.kept for verdict in verdicts) else BROKEN


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        shape = ()
    if len(shape) < 2 or min(shape) < 1:
        raise UserError(
            f"`--shape {text}` is no shape of a sample: give channels and one to four sizes, "
            "separated by commas, such as 3,64,64."
        )
    return shape


def _section(kind: Kind, text: str) -> Any:
    """The plug-in that is meant by `NAME` or `{name: NAME, key: value}`."""
    try:
        section = yaml.safe_load(text)
    except yaml.YAMLError:
        section = None
    if isinstance(section, str):
        return _plugin(kind, section, ())
    if not isinstance(section, dict) or "name" not in section:
        raise UserError(
            f"`{text}` is none of the {kind}: give its name, or `{{name: NAME, key: value}}` in "
            "quotes."
        )
    return _built(kind, section)


def _plugin(kind: Kind, name: str, overrides: Sequence[str]) -> Any:
    section: dict[str, Any] = {}
    for override in overrides:
        section = apply_override(section, override)
    return _built(kind, section | {"name": name})


def _built(kind: Kind, section: dict[str, Any]) -> Any:
    try:
        found = build_plugin(kind, section)
    except WrongKeysError as error:
        lines = "\n".join(f"  - {line}" for line in explain(error.error, error.plugin))
        raise UserError(f"`{section['name']}` cannot be used:\n{lines}") from None
    expected = Adapter if kind == "adapters" else Dataset
    if not isinstance(found, expected):
        raise UserError(
            f"`{section['name']}` is registered in rawdiff.{kind}, but {type(found).__name__} is "
            f"no {expected.__name__}: derive it from `{expected.__module__}.{expected.__name__}`."
        )
    return found
