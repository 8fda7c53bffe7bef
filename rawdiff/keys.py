"""Every key that a recipe may write: what it means, its unit, default and allowed values."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from rawdiff.errors import UserError
from rawdiff.schema import full_schema

Schema = dict[str, Any]
HEADER = """# All keys of a recipe

Written by `rawdiff keys --markdown`; `rawdiff keys train` and `rawdiff keys sample.cfg_scale` show
parts of it in the terminal, with the keys of plug-ins that you have installed.

A key of a section is written `section.key=value` on the command line. A plug-in is chosen by
`name:`; its keys stand beside that. In the column of units – is a number without one, and t a time
between 0 (noise) and 1 (data). A meaning that says *default* explains the default `null`.
"""


@dataclass(frozen=True)
class Key:
    """`unit` is empty for what is no number, `-` for a number without one."""

    name: str
    meaning: str
    unit: str
    default: str
    allowed: str


@dataclass(frozen=True)
class Section:
    """The keys at a `path` of a recipe, of one `plugin` where there are several to choose from."""

    path: str
    plugin: str
    about: str
    keys: tuple[Key, ...]

    @property
    def title(self) -> str:
        return f"{self.path}: {self.plugin}" if self.plugin else self.path or "recipe"

    def answers(self, key: Key, word: str) -> bool:
        """Whether the key is asked for by a word: a section, a plug-in, a key or a dotted key."""
        parts = self.path.split(".") if self.path else []
        within = {".".join(parts[: i + 1]) for i in range(len(parts))}
        names = {self.title, key.name, ".".join([*parts, key.name])}
        if self.plugin:
            names |= {self.plugin, f"{self.path}.{self.plugin}"}
        return word in within | names


def sections() -> list[Section]:
    """All of them, a section before those inside of it."""
    schema = full_schema()
    return list(_sections("", "", schema, schema["$defs"], set()))


def overview(found: Sequence[Section]) -> Table:
    """A line for each section."""
    table = Table("section", "keys", "what it holds", box=None, pad_edge=False)
    for section in found:
        about = " ".join(section.about.partition("\n\n")[0].split())
        table.add_row(section.title, str(len(section.keys)), escape(about))
    return table


def chosen(words: Sequence[str]) -> list[Section]:
    """What every word asks for; UserError where there is none."""
    found = []
    everything = sections()
    for section in everything:
        keys = [key for key in section.keys if all(section.answers(key, word) for word in words)]
        if keys:
            found.append(Section(section.path, section.plugin, section.about, tuple(keys)))
    if not found:
        known = {name for s in everything for name in (s.path, s.plugin, *(k.name for k in s.keys))}
        near = difflib.get_close_matches(words[-1].rpartition(".")[2], known, n=1, cutoff=0.5)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise UserError(f"No key or section of a recipe is `{' '.join(words)}`.{hint}")
    return found


def _sections(
    path: str, plugin: str, model: Schema, definitions: Schema, seen: set[str]
) -> Iterator[Section]:
    parts = {name: part for name, part in model["properties"].items() if name != "name"}
    required = model.get("required", ())
    keys = (_key(name, part, name in required, definitions) for name, part in parts.items())
    yield Section(path, plugin, model.get("description", ""), tuple(keys))
    for name, part in parts.items():
        for inside in _models(part, definitions):
            choice = inside["properties"].get("name", {}).get("const", "")
            at = f"{path}.{name}".strip(".")
            known = json.dumps(inside) if choice else f"{at} {json.dumps(inside)}"
            if known not in seen:  # datasets stand under `data` already
                seen.add(known)
                about = {"description": part.get("description", "")}
                yield from _sections(at, choice, about | inside, definitions, seen)


def _variants(part: Schema, definitions: Schema) -> list[Schema]:
    """What may stand there, without references and choices."""
    if "$ref" in part:
        return [definitions[part["$ref"].rpartition("/")[2]]]
    return [v for choice in part.get("anyOf", [part]) for v in _resolved(choice, definitions)]


def _resolved(part: Schema, definitions: Schema) -> list[Schema]:
    return _variants(part, definitions) if "$ref" in part or "anyOf" in part else [part]


def _models(part: Schema, definitions: Schema) -> Iterator[Schema]:
    """Those with keys of their own, also of the items of a list."""
    for variant in _variants(part, definitions):
        if variant.get("properties") is not None:
            yield variant
        elif isinstance(variant.get("items"), dict):
            yield from _models(variant["items"], definitions)


def _key(name: str, part: Schema, required: bool, definitions: Schema) -> Key:
    inside = next(_models(part, definitions), None)
    words = part.get("description", "")
    if not words and inside is not None:  # a section says itself what it is
        words = inside.get("description", "").partition("\n\n")[0]
    meaning, unit = " ".join(words.split()), ""
    if meaning.endswith("]"):
        meaning, _, unit = meaning.removesuffix("]").rpartition(" [")
    default = "required" if required else _plain(part.get("default", {}))
    if inside is not None and default.startswith("{") and "name:" not in default:
        default = ""  # the defaults of its keys
    return Key(name, meaning, unit, default, _allowed(part, definitions))


def _plain(value: Any) -> str:
    """As a recipe would write it, without keys that are null."""
    if isinstance(value, dict):
        keys = (f"{k}: {_plain(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _allowed(part: Schema, definitions: Schema) -> str:
    found = (
        _kind(variant, definitions)
        for variant in _variants(part, definitions)
        if "const" not in variant.get("properties", {}).get("name", {})  # their names follow
    )
    return " or ".join(dict.fromkeys(found))


def _kind(variant: Schema, definitions: Schema) -> str:
    """What one variant allows, in words."""
    if "const" in variant:
        return _plain(variant["const"])
    if "enum" in variant:
        return ", ".join(_plain(value) for value in variant["enum"])
    if variant.get("properties") is not None:
        return "keys"
    match variant.get("type"):
        case "boolean":
            return "true, false"
        case "integer" | "number" as kind:
            return (
                f"{'whole ' * (kind == 'integer')}number {' and '.join(_bounds(variant))}".strip()
            )
        case "string":
            return "path" if variant.get("format") == "path" else "text"
        case "array":
            return _list(variant, definitions)
        case "object":
            inside = variant.get("additionalProperties")
            values = _allowed(inside, definitions) if isinstance(inside, dict) else ""
            return f"names with {values}" if values else "keys"
        case kind:
            return str(kind)


def _list(variant: Schema, definitions: Schema) -> str:
    if items := variant.get("prefixItems"):
        return f"list of {len(items)}, each {_allowed(items[0], definitions)}"
    return f"list, each {_allowed(variant['items'], definitions)}"


def _bounds(variant: Schema) -> Iterator[str]:
    for word, sign in (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    ):
        if word in variant:
            value = variant[word]
            yield f"{sign} {'2^63' if value == 2**63 else _plain(value)}"


def as_tables(found: Sequence[Section]) -> Iterator[Table]:
    """For the terminal."""
    for section in found:
        table = Table(title=section.title, title_justify="left", box=None, pad_edge=False)
        for column in ("key", "unit", "default", "allowed", "meaning"):
            table.add_column(column, overflow="fold", ratio=3 if column == "meaning" else None)
        for key in section.keys:
            cells = (key.name, key.unit, key.default, key.allowed, key.meaning)
            table.add_row(*map(escape, cells))  # [n] is a shape, not a colour
        yield table


def as_markdown(found: Sequence[Section]) -> str:
    """The page of the documentation."""
    lines = [HEADER]
    before = None
    for section in found:
        top = section.path.partition(".")[0]
        if section.plugin and top != before:
            lines += [f"## {top}", ""]
        level = "##" if section.path == top and not section.plugin else "###"
        lines += [f"{level} {section.title}", "", section.about, ""]
        before = top
        if section.keys:
            lines += ["| key | unit | default | allowed | meaning |", "|---|---|---|---|---|"]
            lines += [_row(key) for key in section.keys] + [""]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _row(key: Key) -> str:
    default = f"`{key.default}`" if key.default not in ("", "required") else key.default
    cells = [f"`{key.name}`", key.unit.replace("-", "–"), default, key.allowed, key.meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
