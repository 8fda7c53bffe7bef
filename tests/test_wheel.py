"""What is published installs and works without the repository, and holds nothing else."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install -e '.[dev]'")

ROOT = Path(__file__).parent.parent

TOP = {
    *("rawdiff", "adapters", "recipes", "tests", "benchmarks", "docs", "examples"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"),
    *("CITATION.cff", "constraints.txt", "mkdocs.yml", "pyproject.toml", "site_pages.py"),
    *(".gitignore", "PKG-INFO"),
}
THE_REST = """
import contextlib, io, sys
import rawdiff
from rawdiff.cli.main import main

def said(*command):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(command) == 0, command
    return out.getvalue()

assert rawdiff.__file__.startswith(sys.prefix), rawdiff.__file__
said("sample", "runs/demo", "sample.num_samples=4")
said("eval", "runs/demo", "evaluate.num_samples=20")
sys.stdout.write(said("schema"))
"""


def _run(*command: object, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder, capture_output=True, text=True, timeout=300,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(source: Path, target: str, out: Path) -> Path:
    """A wheel or an sdist of a source tree; needs no network, as nothing is isolated."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", out, folder=source)
    return next(out.iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return _build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A new environment with the wheel; what rawdiff needs is lent by this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    _run(folder / "bin/python", "-m", "pip", "install", "--no-index", "--no-deps", wheel,
         folder=folder)  # fmt: skip
    lent = [path for path in sys.path if Path(path).name == "site-packages"]
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text("\n".join(lent) + "\n")
    return folder


def test_the_demo_passes_in_an_empty_folder_with_the_wheel_alone(installed, tmp_path) -> None:
    keys = ["train.num_steps=4", "train.picture_every=null", "train.tensorboard=false"]
    _run(installed / "bin/rawdiff", "train", "demo", *keys, folder=tmp_path)
    schema = _run(installed / "bin/python", "-c", THE_REST, folder=tmp_path)
    assert (tmp_path / "runs/demo/samples/picture.png").is_file()
    assert (tmp_path / "runs/demo/scores.json").is_file()
    assert schema == (ROOT / "recipes" / "recipe.schema.json").read_text()


def test_all_recipes_are_those_of_the_wheel(installed, tmp_path) -> None:
    said = _run(installed / "bin/rawdiff", "list", folder=tmp_path)
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert any(
            line.split()[:2] == ["recipes", recipe.stem] and str(installed) in line
            for line in said.splitlines()
        ), recipe.stem


def test_the_sdist_holds_the_sources_and_makes_the_same_wheel(wheel, tmp_path) -> None:
    with tarfile.open(_build(ROOT, "sdist", tmp_path / "sdist")) as file:
        names = [Path(name).relative_to(Path(name).parts[0]) for name in file.getnames()]
        file.extractall(tmp_path, filter="data")
    assert {path.parts[0] for path in names} == TOP
    left_by_work = (".pyc", ".pt", ".npz", ".zarr", ".safetensors")
    assert [path for path in names if path.suffix in left_by_work] == []
    again = _build(next(tmp_path.glob("rawdiff-*")), "wheel", tmp_path / "wheel")
    assert _contents(again) == _contents(wheel)


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}
