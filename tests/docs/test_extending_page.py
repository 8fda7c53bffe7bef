"""From an empty folder to a model that others use: the commands of the page, as written."""

import json
import re
import resource
import subprocess
import sys

import pytest
from fresh_environment import ROOT, FreshEnvironment, fresh_environment

MINUTES = 5


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """rawdiff as others install it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *flags, str(ROOT)], check=True, timeout=120)
    return next(folder.glob("rawdiff-*.whl"))


def processor_seconds() -> float:
    """Of all processes that ended so far: what else the machine does must not decide."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def with_wheel(wheel, folder) -> FreshEnvironment:
    fresh = fresh_environment(folder, with_rawdiff=False)
    fresh.shell(f"pip install {wheel}")
    return fresh


def test_an_empty_folder_becomes_a_model_that_others_use(wheel, tmp_path) -> None:
    before = processor_seconds()
    page = (ROOT / "docs" / "extending.md").read_text()
    mine, theirs = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[:2]
    (tmp_path / "mine").mkdir()
    fresh = with_wheel(wheel, tmp_path / "mine")
    where = fresh.shell("python -c 'import rawdiff; print(rawdiff.__file__)'")
    assert str(fresh.path) in where  # the wheel, not the clone
    fresh.shell(mine)
    scores = json.loads((fresh.folder / "runs" / "tides" / "scores.json").read_text())
    assert scores["scores"]
    (tmp_path / "theirs").mkdir()
    other = with_wheel(wheel, tmp_path / "theirs")
    (fresh.folder / "shared").rename(other.folder / "shared")
    said = other.shell(theirs)
    assert "torch.Size([4, 1, 16, 16])" in said
    assert processor_seconds() - before < 60 * MINUTES
