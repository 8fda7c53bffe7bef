"""Real photographs and satellite images: prepare, check, train, sample and score from the shell."""

import json
from pathlib import Path

import pytest
from PIL import Image
from runs import metrics

from rawdiff.cli.main import main

MODEL = (
    "model={width: 64, depth: 2, heads: 2, bottleneck: 32, in_context_len: 2, in_context_start: 1}"
)


@pytest.mark.parametrize(
    ("name", "size", "patch"), [("eurosat-rgb-10x600", 64, 8), ("imagenet-sample", 96, 16)]
)
def test_prepare_train_sample_and_eval_run_through(
    shared: Path, tmp_path, monkeypatch, capsys, name, size, patch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = [
        "images",
        f"data.path={shared / 'data' / 'images' / name}",
        f"data.size={size}",
        f"adapter.patch_size={patch}",
        MODEL,
        "train.num_steps=50",
        "train.batch_size=32",
        "train.warmup_samples=320",
        "train.learning_rate=1e-3",
        "train.log_every=10",
        "train.picture_every=50",
        "sample.num_steps=4",
        "evaluate={num_samples: 40, num_reference: 200}",
    ]
    assert main(["prepare", *recipe]) == 0
    assert list((tmp_path / "packed").glob("image_folder-*/index.json"))
    assert main(["check", *recipe]) == 0
    assert main(["train", *recipe]) == 0
    run = tmp_path / "runs" / "images"
    losses = [line["loss"] for line in metrics(run)]
    assert losses[-1] < 0.8 * losses[0]
    assert main(["sample", str(run), "sample.num_samples=12"]) == 0
    files = sorted((run / "samples").glob("0*.png"))
    assert len(files) == 12
    assert Image.open(files[0]).size == (size, size)
    assert (run / "samples" / "picture.png").is_file()
    assert main(["eval", str(run)]) == 0
    scores = json.loads((run / "scores.json").read_text())["scores"]
    assert {"frechet", "wasserstein", "spectrum", "seam", "neighbours"} <= scores.keys()
    for score in scores.values():
        assert score.keys() == {"generated", "real held-out"}
    assert scores["frechet"]["generated"] > scores["frechet"]["real held-out"]


def test_an_export_is_all_that_is_needed(tmp_path, monkeypatch, capsys) -> None:
    import rawdiff

    monkeypatch.chdir(tmp_path)
    train = ["train", "demo", "train.num_steps=5", "train.picture_every=null", MODEL]
    assert main(train) == 0
    assert main(["export", "runs/demo", "out", "--weights", "model", "--step", "5"]) == 0
    ours = rawdiff.load("runs/demo", weights="model").sample(3, label=[1, 2, 3], num_steps=3)
    exported = rawdiff.load("out")
    assert exported.origin == {"run": "out", "weights": "model", "step": 5}
    theirs = exported.sample(3, label=[1, 2, 3], num_steps=3)
    assert ours.equal(theirs)
    assert main(["sample", "out", "sample.num_samples=2", "--out", "drawn"]) == 0
    assert len(list((tmp_path / "drawn").glob("0*.png"))) == 2
    assert main(["export", "runs/demo", "out"]) == 2
    assert "no empty folder" in capsys.readouterr().err
