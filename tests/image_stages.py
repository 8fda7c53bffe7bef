"""Stages of the pages on images, their scores, plans, trust and contributing."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import published_jit
import pytest
from inception_weights import write_random_weights
from jit_files import save
from PIL import Image
from rawdiff_images.inception import NUM_FEATURES
from stage import ROOT, Stage

from rawdiff.cli.main import main

SIDE, PATCH, NUM_CLASSES = 32, 16, 2
SMALL = (
    "model.size=null model.width=32 model.depth=2 model.heads=2 model.in_context_len=2 "
    "model.in_context_start=1"
)
FEW_FID = "evaluate.evaluators.fid.num_samples=4 sample.batch_size=4"


def photographs(
    folder: Path, *, num_classes: int = NUM_CLASSES, num: int = 8, side: int = SIDE
) -> None:
    """A folder for each class, with pictures a little larger than the crop."""
    random = np.random.default_rng(0)
    for label in range(num_classes):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(num):
            pixels = random.integers(0, 256, (side + 2, side + 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.png")


def _moments(path: Path) -> None:
    np.savez_compressed(path, mu=np.zeros(NUM_FEATURES), sigma=np.eye(NUM_FEATURES))


def _inception(path: Path) -> str:
    if find_spec("torch_fidelity") is None:
        pytest.skip("torch-fidelity is not installed")
    return f"evaluate.evaluators.fid.weights={write_random_weights(path)}"


def images(folder: Path) -> Stage:
    for name in ("FOLDER", "IMAGENET/train", "IMAGENET/val", "TRAIN", "VAL"):
        photographs(folder / name)
    sizes = {"width": 32, "depth": 2, "head_width": 16, "tokens": 2, "patch": PATCH}
    sizes |= {"per_side": SIDE // PATCH, "classes": NUM_CLASSES}
    save(folder / "checkpoint-last.pth", published_jit.checkpoint(**sizes))
    _moments(folder / "jit_in256_stats.npz")
    weights = _inception(folder.parent / f"{folder.name}.pth")
    size = f"data.size={SIDE}"
    return Stage(
        folder,
        few={
            "prepare": size,
            "import": "--in-context-start 1",  # a name of no published size does not say it
            "train": f"{size} adapter.patch_size={PATCH} train.num_workers=0 "
            f"train.micro_batch_size=null data.num_classes={NUM_CLASSES}",
            "train images": SMALL,
            "train imagenet_jit_b16": f"{SMALL} model.bottleneck=5",
            "eval jit_b16 --metric fid": f"{weights} {FEW_FID}",
        },
    )


def scores(folder: Path) -> Stage:
    photographs(folder / "FOLDER")
    _inception(folder / "weights-inception-2015-12-05-6726825d.pth")
    for size in (256, 512):
        _moments(folder / f"jit_in{size}_stats.npz")
    run = folder / "runs" / "images"
    train = f"train images data.path={folder}/FOLDER data.size={SIDE} train.num_workers=0 {SMALL}"
    few = "train.num_steps=2 train.batch_size=8 train.tensorboard=false train.picture_every=2"
    assert main([*f"{train} {few} adapter.patch_size={PATCH}".split(), f"run_dir={run}"]) == 0
    also = "./runs/images"  # scored with the weights that the page's snippet writes
    return Stage(
        folder,
        stand_ins={"RUN": "runs/images", "G32_AT_512": also, "G16_AT_256": also},
        few={
            "eval": FEW_FID,
            f"eval {also}": "evaluate.evaluators.fid.weights=random_inception.pth",
        },
    )


def log(folder: Path) -> Stage:
    """The nine cells of each study are planned; tests/study runs others."""
    photographs(folder / "eurosat")
    return Stage(folder, few={"study": "--check"})


def scale(folder: Path) -> Stage:
    return Stage(folder, stand_ins={"RECIPE": "demo"})


def _require_goals(*goals: str) -> None:
    for goal in goals:
        command = ["make", "--dry-run", "--directory", str(ROOT), goal]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0, goal


def trust(folder: Path) -> Stage:
    test = "tests/parallel/test_exactness.py"
    _require_goals(".venv")
    assert (ROOT / test).is_file()
    return Stage(
        folder,
        elsewhere={
            "make .venv": "the environment of this test",
            f".venv/bin/pytest {test}": "a test like this one",
        },
    )


def contributing(folder: Path) -> Stage:
    _require_goals("test")
    assert (ROOT / ".pre-commit-config.yaml").is_file()
    assert '"pre-commit' in (ROOT / "pyproject.toml").read_text()
    return Stage(
        folder,
        elsewhere={
            "make test": "runs this test",
            ".venv/bin/pre-commit install": "changes the clone",
        },
    )
