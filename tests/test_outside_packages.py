"""The examples are packages of strangers: installed by pip, used through entry points alone."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fresh_environment import ROOT, FreshEnvironment, fresh_environment

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))
FEW = {
    "train": "train.num_steps=8 train.tensorboard=false",
    "sample": "sample.num_samples=4 sample.num_steps=3",
    "eval": "evaluate.num_samples=8 sample.num_steps=3",
}
"""Keys that make the commands of a page quick."""


def installed(example: Path, folder: Path) -> FreshEnvironment:
    """A fresh environment with a copy of the example, in which it works."""
    fresh = fresh_environment(folder)
    for source in example.iterdir():
        if source.is_dir():
            shutil.copytree(source, fresh.folder / source.name)
        else:
            shutil.copyfile(source, fresh.folder / source.name)
    fresh.shell("pip install .")
    shutil.rmtree(fresh.folder / f"rawdiff_{example.name}")  # nothing but what was installed
    return fresh


def shown_commands(page: Path) -> list[str]:
    """Of the page's first block of bash, but for pip's; few steps instead of many."""
    block = re.search(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    assert block is not None
    lines = [line.partition(" #")[0].strip() for line in block[1].splitlines()]
    assert lines[0] == "pip install -e ."
    return [f"{line} {FEW.get(line.split()[1], '')}".strip() for line in lines[1:]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_outside_package_trains_samples_and_scores_as_its_page_says(example, tmp_path) -> None:
    fresh = installed(example, tmp_path)
    commands = shown_commands(fresh.folder / "README.md")
    assert {line.split()[1] for line in commands} >= {"-m", "train", "sample", "eval"}
    fresh.shell("python -m pytest -q tests")  # its own, of its promises
    fresh.rawdiff(*commands)
    run = fresh.folder / "runs" / example.name
    scores = json.loads((run / "scores.json").read_text())
    assert scores["scores"]
    assert (run / "samples" / "picture.png").is_file()
    if example.name == "sound":
        assert len(list((run / "samples").glob("*.wav"))) == 4
    else:
        with np.load(next((run / "samples").glob("*.npz"))) as file:
            assert file["x"].shape == (4, 1, 4, 8, 8, 8)
            assert 250 < file["x"].mean() < 350  # kelvin
    brought = json.loads((run / "environment.json").read_text())["plugins"]
    assert brought["adapters"] == {example.name: f"rawdiff-{example.name} 0.1.0"}


def test_adapters_of_outside_packages_take_no_more_than_25_lines() -> None:
    adapters = [path for example in EXAMPLES for path in example.glob("rawdiff_*/adapter.py")]
    adapters.append(ROOT / "rawdiff" / "new" / "adapter" / "package" / "adapter.py.template")
    assert len(adapters) == 3
    assert [path for path in adapters if len(path.read_text().splitlines()) > 25] == []


def test_outside_packages_use_nothing_that_is_private() -> None:
    sources = [path for example in EXAMPLES for path in example.rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    assert "from rawdiff" in text
    assert re.findall(r"from rawdiff[\w.]* import .*\b_\w+|rawdiff\.[\w.]*\._\w+", text) == []


def test_a_package_that_breaks_its_promises_is_named_with_its_cure(tmp_path) -> None:
    fresh = installed(ROOT / "examples" / "sound", tmp_path)
    train = f"rawdiff train sound.yaml {FEW['train']}"
    fresh.shell("python -m rawdiff_sound.generate data/tones")
    package = next((fresh.path / "lib").glob("python*/site-packages")) / "rawdiff_sound"

    def said(file: str, old: str, new: str, expected: int) -> str:
        text = (package / file).read_text()
        assert old in text
        (package / file).write_text(text.replace(old, new))
        out = fresh.rawdiff(train, expected=expected)
        (package / file).write_text(text)
        return out

    out = said("adapter.py", "grid.unpatchify(patches", "grid.unpatchify(patches.flip(1)", 2)
    assert "`sound` of rawdiff-sound 0.1.0 cannot be used: unpatchify(patchify(x)) must be x" in out
    out = said("adapter.py", 'return grid.regular_axes(("time",)', 'return None, (("time",)', 2)
    assert "`sound` of rawdiff-sound 0.1.0 cannot be used: `axes` must return a tuple" in out
    out = said("dataset.py", 'units=("1",)', 'units=("1", "1")', 2)
    assert "`sound` of rawdiff-sound 0.1.0 cannot be used: 2 `units` for 1 channels" in out
    out = said("dataset.py", "windows[index]", 'windows["no"]', 1)
    assert "Traceback" in out
    assert "rawdiff-sound 0.1.0 is in this trace. `rawdiff check-dataset sound` says" in out


def test_a_package_registered_twice_broken_or_removed_is_named(tmp_path) -> None:
    fresh = installed(ROOT / "examples" / "sound", tmp_path)
    train = f"rawdiff train sound.yaml {FEW['train']}"
    fresh.rawdiff("python -m rawdiff_sound.generate data/tones", train)
    site = next((fresh.path / "lib").glob("python*/site-packages"))

    rival = site / "noise-2.0.dist-info"
    rival.mkdir()
    (rival / "METADATA").write_text("Metadata-Version: 2.1\nName: noise\nVersion: 2.0\n")
    (rival / "entry_points.txt").write_text("[rawdiff.adapters]\nsound = noise:Noise\n")
    said = fresh.rawdiff(train, expected=2)
    assert "Two packages bring a plug-in `sound` in rawdiff.adapters" in said
    assert "noise 2.0 (noise:Noise)" in said
    assert "rawdiff-sound 0.1.0 (rawdiff_sound.adapter:SoundAdapter)" in said
    shutil.rmtree(rival)

    adapter = site / "rawdiff_sound" / "adapter.py"
    adapter.write_text("import sounds_that_are_not_there\n" + adapter.read_text())
    said = fresh.rawdiff("rawdiff sample runs/sound", expected=2)
    assert "`sound` of rawdiff-sound 0.1.0" in said
    assert "No module named 'sounds_that_are_not_there'" in said

    fresh.shell("pip uninstall --yes rawdiff-sound")
    said = fresh.rawdiff("rawdiff sample runs/sound", train, expected=2)
    assert said.count("No plug-in `sound`") == 2
    assert said.count("runs/sound was made with `sound` of rawdiff-sound 0.1.0: install") == 2
