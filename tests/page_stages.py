"""For each page that has blocks to run: the folder with what its reader is said to have."""

from collections.abc import Callable, Mapping
from pathlib import Path

import image_stages
import numpy as np
import science_stages
from PIL import Image
from stage import FEW, ROOT, Stage

from rawdiff.cli.main import main

SMALL = "model.width=32 model.depth=2 model.heads=2 model.in_context_len=2 model.in_context_start=1"


def _folder(folder: Path) -> Path:
    """Like the reader's clone: the recipes and benchmarks are there."""
    for name in ("recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def _train(recipe: str, folder: Path, name: str, *keys: str) -> None:
    """A small run of a few steps in `runs/NAME`."""
    run = f"run_dir={folder / 'runs' / name}"
    assert main(["train", recipe, *SMALL.split(), *FEW["train"].split(), run, *keys]) == 0


def _demo(folder: Path, *keys: str) -> None:
    _train("demo", folder, "demo", *keys)


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
    _demo(folder)
    _fields(folder / "waves.npy")
    return Stage(
        _folder(folder),
        stand_ins={"RECIPE": "demo", "RUN": "runs/demo", "1234": "4"},
        few={"train": SMALL},
    )


def arrays(folder: Path) -> Stage:
    _fields(folder / "fields.npy")
    return Stage(folder, few={"train": SMALL})


def _photographs(folder: Path, *keys: str) -> None:
    """Nine of 64 x 64 pixels in three classes, and a model of them in `runs/photos`."""
    image_stages.photographs(folder / "photos", num_classes=3, num=3, side=64)
    _train("images", folder, "photos", "train.num_workers=0", f"data.path={folder / 'photos'}")


def sampling(folder: Path) -> Stage:
    _demo(folder, "train.ema=[{power: 0.05}, {power: 0.1}]", "checkpoint.ema_every_steps=1")
    _photographs(folder)
    np.save(folder / "mine.npy", np.zeros((4, 3, 64, 64), dtype=np.uint8))
    given = {"RUN": "runs/photos"}
    return Stage(
        _folder(folder),
        stand_ins={"RUN": "runs/demo", "--metric fid": "--metric frechet"},
        scenes={
            "Between two samples, and from given ones": given,
            "Many samples": {"RUN": "runs/demo"},
        },
        few={
            "benchmarks/solvers.py": "--solvers unipc --evaluations 5 --seeds 1 --best-seeds 1 "
            f"{FEW['eval']}",
            "tune": "sample.cfg_interval=[0.1,1]",
            "benchmarks/guidance.py": f"--scales 3 --seeds 1 {FEW['eval']}",
        },
    )


def steering(folder: Path) -> Stage:
    _demo(folder)
    _photographs(folder)
    science_stages.trained_backbones(folder)
    hole = np.full((1, 8, 8), 8, dtype=np.float32)
    hole[..., 4:] = np.nan
    np.save(folder / "hole.npy", hole)
    np.save(folder / "coarse.npy", np.full((1, 2, 2), 4, dtype=np.float32))
    (folder / "stations.csv").write_text("row,column,ink\n2,3,11\n5.5,1,3\n")
    Image.new("RGB", (80, 64)).save(folder / "photo.png")
    Image.new("L", (80, 64), 255).save(folder / "mask.png")
    return Stage(
        _folder(folder),
        stand_ins={
            "2004-10-01T00": "2001-02-20T00",
            "RUN sample.template": "runs/chains sample.template",
            "RUN": "runs/demo",
        },
        scenes={
            "Three recipes": {"RUN": "runs/photos"},
            "Can the spread be trusted?": {"RUN": "runs/demo"},
        },
        few={
            "rawdiff_weather.generated": "--days 60",
            "weather_demo": f"{SMALL} 'data.time=[2001-01-01,2001-01-30]' "
            "'holdout.data.time=[2001-02-01,2001-03-01]'",
            "--calibration": "--truths 10 --members 3",
        },
    )


def studies(folder: Path) -> Stage:
    """The nine cells are planned; tests/study runs others."""
    return Stage(_folder(folder), stand_ins={"RECIPE": "demo"}, few={"study": "--check"})


def speed(folder: Path) -> Stage:
    return Stage(
        _folder(folder),
        stand_ins={"RECIPE": "demo", "FILE.json": "trace.json", "FILE": "numbers.json"},
    )


STAGES: Mapping[str, Callable[[Path], Stage]] = {
    "README.md": readme,
    "docs/start.md": start,
    "docs/training.md": training,
    "docs/arrays.md": arrays,
    "docs/sampling.md": sampling,
    "docs/steering.md": steering,
    "docs/studies.md": studies,
    "docs/speed.md": speed,
    "docs/images.md": image_stages.images,
    "docs/scores.md": image_stages.scores,
    "docs/log.md": image_stages.log,
    "docs/scale.md": image_stages.scale,
    "docs/trust.md": image_stages.trust,
    "CONTRIBUTING.md": image_stages.contributing,
    "docs/molecules.md": science_stages.molecules,
    "docs/weather.md": science_stages.weather,
}
