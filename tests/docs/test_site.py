"""The documentation builds as a site in which every link leads somewhere."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs-material is not installed"
)


def _build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; strict, so that a link or an anchor that is not there is an error."""
    built = tmp_path_factory.mktemp("site")
    done = _build(ROOT, built)
    assert done.returncode == 0, done.stderr[-3000:]
    return built


def test_the_site_has_every_page_with_its_key_sentences(site) -> None:
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    assert [page for page in pages if not (site / page.with_suffix(".html")).is_file()] == []
    for name, sentence in {
        "index.html": "Train generative models on raw data",
        "changes.html": "First version",
        "keys.html": "max_rollbacks",
        "api/model.html": "names an EMA or",
        "api/plugins.html": "What makes a new modality",
        "api/flow.html": "cfg_scale",
    }.items():
        assert sentence in (site / name).read_text(), name


def test_the_site_needs_nothing_from_elsewhere(site) -> None:
    """No font, script or style is loaded from another host: it can be read without a network."""
    wanted = re.compile(r'<(?:script|link|img)[^>]*(?:src|href)="?(https?:[^" >]+)')
    found = {url for page in site.rglob("*.html") for url in wanted.findall(page.read_text())}
    assert found == set()


def test_a_link_that_leads_nowhere_is_an_error(tmp_path) -> None:
    for name in ("mkdocs.yml", "site_pages.py", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for link, problem in (("speed.md#no-such-part", "no-such-part"), ("nowhere.md", "nowhere.md")):
        (tmp_path / "docs" / "studies.md").write_text(f"# Studies\n\n[there]({link})\n")
        for page in (tmp_path / "docs" / "api").glob("*.md"):
            page.write_text("# Not of this test\n")
        done = _build(tmp_path, tmp_path / "site")
        assert done.returncode != 0
        assert problem in done.stderr
