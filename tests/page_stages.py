"""For each page that has blocks to run: the folder with what its reader is said to have."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from science_stages import molecules, weather
from stage import ROOT, Stage

from rawdiff.cli.main import main

SMALL = "model.width=32 model.depth=2 model.heads=2 model.in_context_len=2 model.in_context_start=1"
DEMO = f"train demo {SMALL} train.num_steps=4 train.batch_size=8 train.tensorboard=false"


def _folder(folder: Path) -> Path:
    """Like the reader's clone: the recipes and benchmarks are there."""
    for name in ("recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def _demo(folder: Path, *keys: str) -> Path:
    """A trained demo in `runs/demo`."""
    run = folder / "runs" / "demo"
    assert main([*DEMO.split(), f"run_dir={run}", *keys]) == 0
    return run


def _fields(path: Path) -> None:
    np.save(path, np.random.default_rng(0).normal(size=(20, 2, 8, 8)))


def readme(folder: Path) -> Stage:
    return Stage(_folder(folder), few={"train": SMALL})


def start(folder: Path) -> Stage:
    stage = readme(folder)
    stage.elsewhere = {
        "git clone REPOSITORY rawdiff": "no network",
        "cd rawdiff": "here",
        "source .venv/bin/activate": "as it is",
    }
    return stage


def training(folder: Path) -> Stage:
    _demo(folder, "checkpoint.every_steps=2")
    _fields(folder / "waves.npy")
    return Stage(
        _folder(folder),
        stand_ins={"RECIPE": "demo", "RUN": "runs/demo", "1234": "4"},
        few={"train": SMALL},
    )


def arrays(folder: Path) -> Stage:
    _fields(folder / "fields.npy")
    return Stage(folder, few={"train": SMALL})


def sampling(folder: Path) -> Stage:
    _demo(folder)
    np.save(folder / "mine.npy", np.zeros((4, 1, 8, 8), dtype=np.float32))
    for i in range(4):
        (folder / "photos").mkdir(exist_ok=True)
        Image.new("L", (9, 8), 60 * i).save(folder / "photos" / f"{i}.png")
    return Stage(_folder(folder), stand_ins={"RUN": "runs/demo"})


def steering(folder: Path) -> Stage:
    _demo(folder)
    return Stage(_folder(folder), stand_ins={"RUN": "runs/demo"})


def studies(folder: Path) -> Stage:
    return Stage(_folder(folder), stand_ins={"RECIPE": "demo"})


def speed(folder: Path) -> Stage:
    return Stage(_folder(folder), stand_ins={"RECIPE": "demo"})


STAGES: Mapping[str, Callable[[Path], Stage]] = {
    "README.md": readme,
    "docs/start.md": start,
    "docs/training.md": training,
    "docs/arrays.md": arrays,
    "docs/sampling.md": sampling,
    "docs/steering.md": steering,
    "docs/studies.md": studies,
    "docs/speed.md": speed,
    "docs/molecules.md": molecules,
    "docs/weather.md": weather,
}
