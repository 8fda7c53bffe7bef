"""Commands of the pages, in sentences too, are those that rawdiff takes."""

import argparse
import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from rawdiff import keys
from rawdiff.built_in import built_in_recipes
from rawdiff.cli.parser import make_parser, parse
from rawdiff.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
    *sorted((ROOT / "recipes").glob("*.yaml")),
]


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `rawdiff` of each command in a block of a page, or in a recipe's header."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        text = text.replace("\\\n#", " ")
        blocks = re.findall(r"^# Command: (.*)$", text, re.MULTILINE)
    else:
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").split("\n"):
        for part in re.split(r"&&|[|;>&]| #|   \(", line):
            yield from words_of(part)


def words_of(text: str) -> Iterator[list[str]]:
    """Those behind `rawdiff`, where the text is such a command."""
    text = re.sub(r" \[[^]]*\]", "", text).strip()  # [what may be left out]
    if found := re.fullmatch(r"(?:\w+=\S+ )*(?:torchrun .* -m )?rawdiff (\S.*)", text):
        yield shlex.split(found[1])


def spans(page: Path) -> list[str]:
    """What stands between backticks in sentences of a page, or of a recipe's comments."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        text = re.sub("^#", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def named_in_sentences(page: Path) -> Iterator[list[str]]:
    """The words of commands there; a lone letter stands for a number, … for more."""
    for span in spans(page):
        for words in words_of(re.split(r">|\\?\|", span)[0]):
            words = ["train" if word == "COMMAND" else word for word in words if word != "…"]
            yield [re.sub(r"^[A-Z]$", "1", word) for word in words]


def parsed(words: Sequence[str], *, whole: bool) -> argparse.Namespace:
    """AssertionError where rawdiff refuses them; if not `whole`, recipe, run and file may lack."""
    for lacking in ((),) if whole else ((), ("X",), ("X", "X")):
        try:
            return parse([words[0], *lacking, *words[1:]])
        except SystemExit as end:
            if end.code == 0:  # --help
                return argparse.Namespace()
    raise AssertionError(f"rawdiff {' '.join(words)} is refused")


@functools.cache
def known_keys() -> tuple[frozenset[str], frozenset[str]]:
    """Those of a recipe, dotted; and how plug-ins are chosen, as `sample.template.name=given`."""
    sections = keys.sections()
    names = {
        f"{section.path}.{key.name}".strip(".") for section in sections for key in section.keys
    }
    chosen = {f"{section.path}.name={section.plugin}" for section in sections if section.plugin}
    return frozenset(names | {choice.partition("=")[0] for choice in chosen}), frozenset(chosen)


def require_keys(words: Sequence[str], args: argparse.Namespace) -> None:
    """AssertionError where a key is none of a recipe, nor of a plug-in that is not installed."""
    overrides = getattr(args, "overrides", [])
    strange = [word for word in overrides if "=" not in word]
    assert not strange, f"rawdiff {' '.join(words)}: {strange} are no keys"
    if words[0] == "keys":
        keys.chosen(args.words)
    if getattr(args, "recipe", None) in built_in_recipes():
        load_recipe(args.recipe, overrides)
    if words[0] in ("check-adapter", "check-dataset"):  # keys of that plug-in alone
        return
    known, plugins = known_keys()
    of_others = tuple(
        word.partition("name=")[0] for word in overrides if ".name=" in word and word not in plugins
    )
    given = (word.partition("=") for word in overrides)
    told = [inner for key, _, value in given for inner in dotted(key, yaml.safe_load(value))]
    within = "sample." if words[0] == "tune" else ""
    told += [f"{within}{word.partition('=')[0]}" for word in getattr(args, "grid", [])]
    told = [re.sub(r"^(holdout|sample\.template)\.(?=data\.)", "", key) for key in told]
    missing = [key for key in told if key not in known and not key.startswith(of_others)]
    assert not missing, f"rawdiff {' '.join(words)}: no recipe has {missing}"


def dotted(key: str, value: object) -> Iterator[str]:
    """A key, and those inside of its value."""
    yield key
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from dotted(f"{key}.{name}", inner)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_rawdiff_takes_the_commands_of(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in commands(page):
        require_keys(words, parsed(words, whole=True))
    for words in named_in_sentences(page):
        if len(words) > 1 or words[0] not in make_parser()[1]:
            require_keys(words, parsed(words, whole=False))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_keys_in_sentences_are_those_of_a_recipe(page: Path) -> None:
    known, _ = known_keys()
    sections = {key.partition(".")[0] for key in known}
    for span in spans(page):
        for key in re.findall(r'^"?((?:[a-z]+\.)+\w+)=', span):
            key = re.sub(r"^(holdout|sample\.template)\.(?=data\.)", "", key)
            if key.partition(".")[0] in sections and not key.endswith(".KEY"):
                assert key in known, f"`{span}` is no key"


def test_the_pages_are_read() -> None:
    found = [words[0] for page in PAGES for words in commands(page)]
    assert len(found) > 100
    assert sum(1 for page in PAGES for _ in named_in_sentences(page)) > 150
    assert {"train", "sample", "eval", "check", "bench", "export", "new", "keys"} <= set(found)
