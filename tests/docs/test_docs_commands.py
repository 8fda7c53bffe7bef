"""Commands of the pages are those that rawdiff takes; what Python snippets import is there."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawdiff.built_in import built_in_recipes
from rawdiff.cli.parser import parse
from rawdiff.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
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
        for part in re.split(r"&&|[|;>&]|  #|   \(", line):
            words = re.sub(r" \[[^]]*\]", "", part).strip()  # [what may be left out]
            if found := re.fullmatch(r"(?:torchrun .* -m )?rawdiff (\w.*)", words):
                yield shlex.split(found[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_rawdiff_takes_the_commands_of(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in commands(page):
        try:
            args = parse(words)
        except SystemExit:
            raise AssertionError(f"rawdiff {' '.join(words)} is refused") from None
        overrides = getattr(args, "overrides", [])
        strange = [word for word in overrides if "=" not in word]
        assert not strange, f"rawdiff {' '.join(words)}: {strange} are no keys"
        if getattr(args, "recipe", None) in built_in_recipes():
            load_recipe(args.recipe, overrides)


def test_the_pages_are_read() -> None:
    found = [words[0] for page in PAGES for words in commands(page)]
    assert len(found) > 100
    assert {"train", "sample", "eval", "check", "bench", "export", "new", "keys"} <= set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_snippets_import_is_there(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("rawdiff"):
                module = importlib.import_module(str(node.module))
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert not missing, f"{node.module} has no {missing}"
