"""What the docs show works as written."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from runs import checkpoint_tensors, small_recipe, write_arrays

from rawdiff import plugins
from rawdiff.bench import variants
from rawdiff.cli.main import main
from rawdiff.data.dataset import collate
from rawdiff.grid import PatchGrid
from rawdiff.model.network import Interface
from rawdiff.parallel import apply
from rawdiff.run import load
from rawdiff.train import objective

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


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


@pytest.fixture
def stranger(tmp_path, monkeypatch) -> Iterator[None]:
    """The network of the page, in a package that was installed beside rawdiff."""
    site = tmp_path / "site"
    (site / "theirs-1.0.dist-info").mkdir(parents=True)
    (site / "theirs-1.0.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1.0\n")
    (site / "theirs-1.0.dist-info" / "entry_points.txt").write_text(
        "[rawdiff.networks]\nperceptron = network_of_a_stranger:PerceptronSettings\n"
    )
    block = next(b for b in _blocks(ROOT / "docs" / "extending.md", "python") if "(Network)" in b)
    (site / "network_of_a_stranger.py").write_text(block)
    monkeypatch.syspath_prepend(site)
    plugins._entry_points.cache_clear()
    yield
    plugins._entry_points.cache_clear()
    sys.modules.pop("network_of_a_stranger")


@pytest.mark.usefixtures("stranger")
def test_a_network_of_a_stranger_trains_continues_samples_scores_and_goes_out(
    tmp_path, capsys
) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 1, 8)).astype(np.float32)
    x[::3, :, 5] = np.nan
    data = write_arrays(tmp_path, x=x, labels=random.integers(0, 3, 40))
    recipe = small_recipe(tmp_path, data, [2], holdout={"fraction": 0.25}, model="perceptron")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    keys = ["model.width=5", "train.micro_batch_size=4"]
    for run, num_steps in ((whole, 6), (parts, 2), (parts, 6)):
        end = [f"run_dir={run}", f"train.num_steps={num_steps}"]
        assert main(["train", str(recipe), *keys, *end]) == 0
    expected, found = (checkpoint_tensors(run, 6) for run in (whole, parts))
    assert expected["model.up.weight"].shape == (5, 9)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert main(["train", str(recipe), "model.width=6", f"run_dir={parts}"]) == 2
    assert "model.width: 5 there, 6 now" in capsys.readouterr().err
    for command in (["check", recipe], ["sample", whole], ["eval", whole]):
        assert main([str(part) for part in command]) == 0
    assert main(["export", str(whole), str(tmp_path / "out")]) == 0
    assert torch.equal(load(tmp_path / "out").sample(2, label=1), load(whole).sample(2, label=1))


def _save(x: np.ndarray, path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".zarr":
        zarr.save_array(path, x)
    else:
        with h5py.File(path, "w") as file:
            file["x"] = x


@pytest.mark.parametrize("suffix", ["npy", "zarr", "h5"])
def test_the_recipe_on_arrays_has_ten_lines_and_trains(suffix, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    _save(np.random.default_rng(0).normal(size=(20, 2, 8, 8)), tmp_path / f"fields.{suffix}")
    (recipe,) = _blocks(ROOT / "docs" / "arrays.md", "yaml")
    assert len(recipe.splitlines()) <= 10
    (tmp_path / "fields.yaml").write_text(recipe.replace(".npy", f".{suffix}"))
    few = ["train.num_steps=2", "train.batch_size=4", "model.width=32", "train.tensorboard=false"]
    assert main(["train", "fields.yaml", *few]) == 0
    sampled = load("runs/fields").sample(2, num_steps=2)
    assert sampled.shape == (2, 2, 8, 8)


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


SHOWN = re.findall(r"\$ rawdiff (check .*)\n([^`]*)", (ROOT / "docs" / "scale.md").read_text())


@pytest.mark.parametrize(("command", "table"), SHOWN, ids=[command for command, _ in SHOWN])
def test_plans_that_are_shown_are_printed(command, table, capsys) -> None:
    """All of them, apart from what is left out at a `…`."""
    assert main(command.split()) == 0
    printed = " ".join(capsys.readouterr().out.split())
    pieces = [" ".join(piece.split()) for piece in table.split("…\n")]
    assert [piece for piece in pieces if piece not in printed] == []


def test_the_page_on_scale_shows_plans() -> None:
    assert len(SHOWN) == 4


def _rows(printed: str) -> list[str]:
    """The names that begin the rows of tables."""
    lines = (line for line in printed.splitlines() if "  " in line)
    return [line.partition("  ")[0] for line in lines]


def test_the_rows_of_bench_are_those_that_the_page_shows(tmp_path, monkeypatch, capsys) -> None:
    """Of a smaller network, without a compiler; all is tried, however little time is left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(variants, "COMPILING", -1.0)
    monkeypatch.setattr(variants, "MUCH_SLOWER", -1)
    monkeypatch.setattr(apply, "compiled", lambda function: function)
    monkeypatch.setattr(objective, "compiled", lambda function: function)
    page = (ROOT / "docs" / "speed.md").read_text()
    ((command, table),) = re.findall(r"\$ OMP_NUM_THREADS=1 rawdiff (bench .*)\n([^`]*)", page)
    few = ["model.width=32", "train.batch_size=8", "train.device=cpu", "--seconds", "1"]
    assert main([*command.split(), *few]) == 0
    assert _rows(capsys.readouterr().out) == _rows(table)
    assert len(_rows(table)) > 20


def test_every_proof_on_the_page_of_trust_is_a_test_or_a_benchmark() -> None:
    page = (ROOT / "docs" / "trust.md").read_text()
    proofs = re.findall(r"((?:tests|benchmarks)/[\w/]+\.py)(?:::(\w+))?", page)
    assert len(proofs) > 30
    for file, name in proofs:
        text = (ROOT / file).read_text()
        assert f"def {name or ('test_' if file.startswith('tests') else 'main')}" in text, file
