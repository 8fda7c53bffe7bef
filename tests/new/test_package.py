"""`rawdiff new adapter NAME` writes a package that keeps its promises, or says why it does not."""

import importlib
import subprocess
import sys

import pytest

from rawdiff.cli.main import main
from rawdiff.new.package import new_adapter
from rawdiff.recipe_file import read_yaml


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A new one, to be imported as if it were installed."""
    folder = new_adapter("deep_sea", tmp_path / "deep_sea")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(folder / "tests")
    yield folder
    for name in [name for name in sys.modules if "deep_sea" in name]:
        del sys.modules[name]


def test_a_new_package_passes_its_own_tests(package) -> None:
    tests = importlib.import_module("test_deep_sea")
    functions = [value for name, value in vars(tests).items() if name.startswith("test_")]
    assert len(functions) == 2
    for function in functions:
        function()


def test_a_new_package_is_called_by_one_name_throughout(package) -> None:
    files = {str(path.relative_to(package)) for path in package.rglob("*.*") if path.is_file()}
    module = "rawdiff_deep_sea"
    parts = {f"{module}/{name}.py" for name in ("__init__", "adapter", "dataset")}
    assert files == parts | {
        "pyproject.toml",
        "README.md",
        "deep_sea.yaml",
        "tests/test_deep_sea.py",
    }
    recipe = read_yaml(package / "deep_sea.yaml")
    assert recipe["data"] == recipe["adapter"] == {"name": "deep_sea"}
    project = (package / "pyproject.toml").read_text()
    for line in (
        'name = "rawdiff-deep_sea"',
        'deep_sea = "rawdiff_deep_sea.adapter:DeepSeaAdapter"',
        'deep_sea = "rawdiff_deep_sea.dataset:DeepSeaDataset"',
    ):
        assert line in project.splitlines()
    assert "$" not in "".join(path.read_text() for path in package.rglob("*.*") if path.is_file())


def test_a_new_package_is_formatted_and_clean(package) -> None:
    for command in (["format", "--check"], ["check", "--select", "E,F,I,N,UP,B,SIM,PT,RUF"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "."]
        done = subprocess.run(ruff, cwd=package, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("3D-Flow", "lower-case letters"),
        ("Deep Sea", "such as `deep_sea`"),
        ("sea_", "such as `sea`"),
        ("grid", "`grid` is taken: rawdiff 0.1.0 brings it to rawdiff.adapters"),
        ("spiral", "`spiral` is taken: rawdiff 0.1.0 brings it to rawdiff.datasets"),
        ("toy", "A package `rawdiff_toy` is installed already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_written(
    name, said, tmp_path, capsys
) -> None:
    assert main(["new", "adapter", name, str(tmp_path / "new")]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sea").mkdir()
    (tmp_path / "sea" / "mine.txt").write_text("mine")
    assert main(["new", "adapter", "sea"]) == 2
    assert "sea is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "sea").iterdir()] == ["mine.txt"]
    assert main(["new", "adapter", "sea", "other"]) == 0
    assert "pip install -e ./other" in capsys.readouterr().out
