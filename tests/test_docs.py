"""What the docs show works as written."""

import importlib
import re
from pathlib import Path

import pytest
import torch

from rawdiff.data.dataset import collate
from rawdiff.grid import PatchGrid
from rawdiff.model.network import Interface

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_page_on_extending_is_a_package_that_works(tmp_path, monkeypatch) -> None:
    blocks = _blocks(ROOT / "docs" / "extending.md", "python")
    (tmp_path / "shown_in_docs.py").write_text("\n".join(blocks))  # its check_adapter runs, too
    monkeypatch.syspath_prepend(tmp_path)
    shown = importlib.import_module("shown_in_docs")
    dataset = shown.Chirps(num_samples=4)
    batch = collate([dataset[i] for i in range(4)], range(4))
    assert batch.x.shape == (4, *dataset.info.shape)
    patches = shown.SoundAdapter().patchify(batch.x)
    assert patches.shape == (4, 32, 128)
    grid = PatchGrid(shown.SoundAdapter().axes(dataset.info.shape, {}))
    network = shown.PerceptronSettings(width=8).build(Interface(patch_dim=128), grid)
    network.initialize(0)
    assert network(patches, torch.rand(4)).shape == patches.shape


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page) -> None:
    targets = re.findall(r"\]\(([^)#:]+?)\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_every_module_stands_in_the_tree_of_the_readme() -> None:
    tree = (ROOT / "README.md").read_text().partition("## Where things are")[2].split()
    modules = [p.name for p in (ROOT / "rawdiff").glob("*.py") if not p.name.startswith("_")]
    folders = [p.name + "/" for p in (ROOT / "rawdiff").iterdir() if (p / "__init__.py").is_file()]
    assert [name for name in modules + folders if name not in tree] == []
