"""What each command that looks something up does with its arguments: plug-ins, recipes, keys."""

from __future__ import annotations

import argparse
import dataclasses
import json

from rich.table import Table

from rawdiff import keys, plugins, schema
from rawdiff.built_in import built_in_recipes
from rawdiff.cli.terminal import console, print_json, put
from rawdiff.files import write_text


def do_list(args: argparse.Namespace) -> None:
    table = Table("kind", "name", "where it comes from", box=None, pad_edge=False)
    found = [plugin for kind in plugins.KINDS for plugin in plugins.plugins(kind)]
    for plugin in found:
        table.add_row(plugin.kind, plugin.name, f"{plugin.package}  {plugin.target}")
    recipes = built_in_recipes()
    for name, path in recipes.items():
        table.add_row("recipes", name, str(path))
    console.print(table)
    if args.json:
        named = [{"kind": "recipes", "name": n, "target": str(p)} for n, p in recipes.items()]
        print_json([*map(dataclasses.asdict, found), *named])


def do_schema(args: argparse.Namespace) -> None:
    text = json.dumps(schema.recipe_schema(), indent=1) + "\n"
    if args.file is None:
        put(text)
    else:
        write_text(args.file, text)
        console.print(f"written: {args.file}", markup=False)


def do_keys(args: argparse.Namespace) -> None:
    found = keys.chosen(args.words) if args.words else keys.sections()
    if args.markdown:
        put(keys.as_markdown(found))
    elif args.words:
        for table in keys.as_tables(found):
            console.print(table, soft_wrap=False)
            console.print()
    else:
        console.print(keys.overview(found), soft_wrap=False)
