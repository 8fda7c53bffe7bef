"""Every command and every snippet of every page runs, in the order of the page."""

from pathlib import Path

import pytest
from page_stages import STAGES
from stage import ROOT, blocks

PAGES = [
    path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").glob("*/README.md")),
    )
    if blocks(path, "bash", "python", "yaml")
]
BY_OTHER_TESTS = {
    "docs/cluster.md": "tests/docs/test_cluster_docs.py",
    "docs/extending.md": "tests/docs/test_extending_page.py",
    "docs/python.md": "tests/test_demo.py",
    "examples/sound/README.md": "tests/test_outside_packages.py",
    "examples/spacetime/README.md": "tests/test_outside_packages.py",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page: Path, tmp_path: Path) -> None:
    name = str(page.relative_to(ROOT))
    if name in BY_OTHER_TESTS:
        assert page.name in (ROOT / BY_OTHER_TESTS[name]).read_text()
    else:
        STAGES[name](tmp_path).play(page)
