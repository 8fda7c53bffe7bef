"""Published JiT checkpoints come in and go out, to the bit."""

import copy
import json
import re
from importlib.util import find_spec
from pathlib import Path

import inception_weights
import numpy as np
import published_jit
import pytest
import torch
import yaml
from jit_files import assert_same_tensors, bring, quiet, read_back, save
from PIL import Image
from rawdiff_images.jit import JiTFormat
from rawdiff_images.jit_layout import PREFIX, position_table
from rawdiff_images.jit_layout import measure as measure_tensors
from rawdiff_images.jit_settings import Arguments, make_layout, to_recipe
from runs import metrics, rawdiff

from rawdiff.built_in import built_in_recipes
from rawdiff.cli.main import main
from rawdiff.exchange.checkpoints import export_model, import_model
from rawdiff.model.settings import SIZES
from rawdiff.recipe_file import load_recipe, parse_recipe, read_yaml
from rawdiff.run import load
from rawdiff.saved.folder import RunFolder
from rawdiff.train.start import train
from rawdiff.tuned import Tuned, write_tuned

PUBLISHED = [n for n in built_in_recipes() if re.fullmatch(r"imagenet_jit_[blhg]\d\d", n)]


@pytest.mark.parametrize(
    ("sizes", "start"),
    [
        ({}, 1),
        ({"depth": 5, "head_width": 12, "width": 36, "patch": 4, "tokens": 1}, 0),
        ({"channels": 1, "classes": 1, "per_side": 4, "bottleneck": 1, "head_width": 4}, 2),
        ({"width": 20, "head_width": 20, "per_side": 1, "patch": 7, "classes": 30, "depth": 1}, 0),
    ],
)
@pytest.mark.parametrize("weights", ["model", "ema1", "ema2"])
@torch.no_grad()
def test_an_import_predicts_what_the_published_network_predicts(
    tmp_path, sizes, start, weights
) -> None:
    checkpoint = published_jit.checkpoint(**sizes)
    path = save(tmp_path / "c.pth", checkpoint)
    model = load(bring(path, tmp_path / "out", weights=weights, in_context_start=start))
    z_t = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(1))
    num_classes = model.sampler.info.num_classes
    t, label = torch.tensor([0.0, 0.3, 0.7, 1.0]), torch.tensor([0, 0, num_classes, num_classes])
    key = "model" if weights == "model" else f"model_{weights}"
    expected = published_jit.forward(checkpoint[key], z_t, t, label, start)
    error = (model.predict(z_t, t, label) - expected).norm() / expected.norm()
    assert error < 1e-5


def test_import_export_import_is_equal_to_the_bit(tmp_path) -> None:
    checkpoint = published_jit.checkpoint(classes=4, channels=1, per_side=5)
    out = bring(save(tmp_path / "c.pth", checkpoint), tmp_path / "a", weights="ema2")
    assert main(["export", str(out), str(tmp_path / "back.pth"), "--format", "jit"]) == 0
    back = read_back(tmp_path / "back.pth")
    for key in ("model", "model_ema1", "model_ema2"):
        assert_same_tensors(back[key], checkpoint["model_ema2"])
    again = import_model(JiTFormat(), tmp_path / "back.pth", tmp_path / "b", say=quiet)
    names = ("statistics.safetensors", "data.json")
    assert all((out / name).read_bytes() == (again / name).read_bytes() for name in names)
    first, second = read_yaml(out / "recipe.yaml"), read_yaml(again / "recipe.yaml")
    assert first | {"run_dir": None} == second | {"run_dir": None}
    assert_same_tensors(
        dict(load(out).sampler.network.state_dict()), dict(load(again).sampler.network.state_dict())
    )


def test_the_recorded_checkpoint_comes_back_to_the_bit(shared, tmp_path) -> None:
    path = shared / "reference" / "jit_tiny" / "checkpoint-last.pth"
    original = read_back(path)
    for weights in ("model", "ema1"):
        out = bring(path, tmp_path / weights, weights=weights, in_context_start=2)
        back = read_back(export_model(JiTFormat(), out, tmp_path / f"{weights}.pth", say=quiet))
        key = "model" if weights == "model" else f"model_{weights}"
        assert list(back["model"]) == list(original[key])  # in the same order, even
        assert_same_tensors(back["model"], original[key])
    for key in vars(original["args"]).keys() - {"model"}:
        assert getattr(back["args"], key) == getattr(original["args"], key)


def test_settings_are_those_of_the_file(tmp_path) -> None:
    out = bring(save(tmp_path / "c.pth", published_jit.checkpoint()), tmp_path / "out")
    model = load(out)
    recipe, said = model.recipe, published_jit.ARGS
    assert recipe.flow.noise_scale == said["noise_scale"]
    assert (recipe.flow.P_mean, recipe.flow.P_std) == (said["P_mean"], said["P_std"])
    assert recipe.flow.t_eps == recipe.sample.t_eps == said["t_eps"]
    assert recipe.flow.label_drop == said["label_drop_prob"]
    assert recipe.sample.solver == said["sampling_method"]
    assert recipe.sample.num_steps == said["num_sampling_steps"]
    assert recipe.sample.cfg_scale == said["cfg"]
    assert recipe.sample.cfg_interval == (said["interval_min"], said["interval_max"])
    assert recipe.model.dropout == said["proj_dropout"]
    assert model.sampler.info.class_names == tuple("0123456")
    assert model.shape == (3, 6, 6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_gets_its_published_recipe(name) -> None:
    expected = load_recipe(name)
    size, patch = expected.model.size, expected.adapter.patch_size[0]
    sizes = SIZES[size]
    made = published_jit.shapes(
        width=sizes["width"],
        depth=sizes["depth"],
        head_width=sizes["width"] // sizes["heads"],
        bottleneck=sizes["bottleneck"],
        patch=patch,
        per_side=16,
        channels=3,
        classes=1000,
        tokens=32,
    )
    tensors = {key: torch.empty(shape, device="meta") for key, shape in made.items()}
    args = Arguments(
        model=f"JiT-{size}/{patch}",
        img_size=16 * patch,
        class_num=1000,
        noise_scale=expected.flow.noise_scale,
        P_mean=-0.8,
        P_std=0.8,
        t_eps=0.05,
        cfg=expected.sample.cfg_scale,
        proj_dropout=sizes.get("dropout", 0.0),
    )
    for said in (args, Arguments(model=args.model)):  # older files say less
        layout = make_layout(measure_tensors(tensors, "file"), said, None, "file")
        assert {entry.name: entry.shape for entry in layout.entries()} | {
            "pos_embed": made["pos_embed"]
        } == made
        assert parse_recipe(to_recipe(layout, said), "file") == expected


def test_a_file_that_does_not_say_its_noise_has_that_of_its_size() -> None:
    for per_side, expected in ((1, 1.0), (16, 1.0), (32, 2.0)):
        made = published_jit.shapes(**(published_jit.TINY | {"patch": 16, "per_side": per_side}))
        tensors = {key: torch.empty(shape, device="meta") for key, shape in made.items()}
        layout = make_layout(measure_tensors(tensors, "file"), Arguments(), 1, "file")
        assert to_recipe(layout, Arguments())["flow"]["noise_scale"] == expected


def test_the_position_table_is_that_of_the_description() -> None:
    for per_side, width in ((1, 4), (3, 24), (16, 768)):
        expected = published_jit.position_table(per_side, width)
        assert torch.allclose(position_table(per_side, width), expected, atol=1e-7, rtol=0)


def test_names_may_hold_what_wrappers_put_in(tmp_path) -> None:
    plain = published_jit.checkpoint()
    wrapped = copy.copy(plain)
    wrapped["model_ema1"] = {
        name.replace("net.", "module._orig_mod.net.").replace("blocks.0.", "blocks.0._orig_mod."): t
        for name, t in plain["model_ema1"].items()
    }
    models = [
        load(bring(save(tmp_path / f"{i}.pth", checkpoint), tmp_path / str(i)))
        for i, checkpoint in enumerate((plain, wrapped))
    ]
    first, second = (dict(model.sampler.network.state_dict()) for model in models)
    assert_same_tensors(first, second)


def test_a_drifted_average_of_the_table_is_taken(tmp_path) -> None:
    """An EMA of a constant drifts by rounding: by 2e-4 in 300,000 steps of decay 0.9999."""
    checkpoint = published_jit.checkpoint()
    checkpoint["model_ema1"]["net.pos_embed"] *= 1 - 2e-4
    load(bring(save(tmp_path / "c.pth", checkpoint), tmp_path / "out"))


def test_half_precision_becomes_float32(tmp_path) -> None:
    checkpoint = published_jit.checkpoint()
    halves = {n: t.bfloat16() for n, t in checkpoint["model_ema1"].items()}
    heard: list[str] = []
    path = save(tmp_path / "c.pth", checkpoint | {"model_ema1": halves})
    import_model(JiTFormat(in_context_start=1), path, tmp_path / "out", say=heard.append)
    weights = load(tmp_path / "out").sampler.network.state_dict()
    assert torch.equal(weights["last_layer.linear.bias"], halves["net.final_layer.linear.bias"])
    assert weights["last_layer.linear.bias"].dtype == torch.float32
    assert any("bfloat16 became float32" in line for line in heard)


@pytest.fixture
def images(tmp_path) -> Path:
    """Images of 6 x 6 pixels in 7 classes, whose names are none of an import's."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(7):
            folder = tmp_path / split / f"n{label}"
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


def test_an_import_samples_scores_and_trains_further(images, tmp_path) -> None:
    """The commands of the docs, each in a process of its own."""
    path = save(tmp_path / "c.pth", published_jit.checkpoint())
    out, data = tmp_path / "jit", [f"data.path={images}/train", f"holdout.data.path={images}/val"]
    done = rawdiff("import", "jit", path, out, "--weights", "model", "--in-context-start", "1")
    assert done.returncode == 0, done.stderr
    assert "M parameters: width 24, depth 3, heads 3, bottleneck 5" in done.stdout
    assert f"`rawdiff sample {out}`" in done.stdout
    done = rawdiff("sample", out, "sample.num_samples=7")
    assert done.returncode == 0, done.stderr
    assert len(list((out / "samples").glob("*.png"))) == 8  # and a picture of all
    done = rawdiff("eval", out, *data)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "scores.json").read_text())["counts"]["frechet"]["generated"] == 14
    keys = ["train.num_steps=2", "train.batch_size=4", "train.micro_batch_size=null"]
    keys += ["train.num_workers=0", "train.log_every=1", "train.warmup_samples=0"]
    keys += [f"train.init_from={out}", f"run_dir={tmp_path / 'run'}", "train.picture_every=null"]
    done = rawdiff("train", out / "recipe.yaml", *data, *keys)
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "run")) == 2
    before, after = (
        load(folder, **which).sampler.network.state_dict()["blocks.1.attn.qkv.weight"]
        for folder, which in ((out, {}), (tmp_path / "run", {"weights": "model"}))
    )
    assert 0 < (after - before).abs().max() < 1e-2  # two small steps away


@pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="torch-fidelity is absent")
def test_an_import_is_scored_and_tuned_against_published_statistics_without_data(
    tmp_path, capsys
) -> None:
    out = bring(save(tmp_path / "c.pth", published_jit.checkpoint()), tmp_path / "jit")
    weights, published = tmp_path / "inception.pth", tmp_path / "stats.npz"
    inception_weights.write_random_weights(weights)
    np.savez(published, mu=np.zeros(2048), sigma=np.eye(2048))
    keys = [f"evaluate.evaluators.fid.{key}" for key in ("weights", "reference", "num_samples")]
    settings = [f"{keys[0]}={weights}", f"{keys[1]}={published}", "sample.num_steps=1"]
    command = ["eval", str(out), "--metric", "fid", *settings, f"{keys[2]}=7"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "no real held-out data beside" in shown
    assert "7 samples" in shown
    assert " 0 " not in shown.replace("\n", " ").partition("meaning")[0]
    report = json.loads((out / "scores-fid.json").read_text())
    assert set(report["scores"]["fid"]) == {"generated"}
    assert report["counts"]["fid"] == {"generated": 7}
    command = ["tune", str(out), "--metric", "fid", *settings, "--num-samples", "4"]
    assert main([*command, "--grid", "cfg_scale=1,3", "--grid", "cfg_interval=[0.1,1]"]) == 0
    assert read_yaml(out / "tuned.yaml")["sample"]["cfg_scale"] in (1, 3)


def test_scores_of_an_import_need_data_of_its_kind(images, tmp_path, capsys) -> None:
    path = save(tmp_path / "c.pth", published_jit.checkpoint(classes=8))
    out = bring(path, tmp_path / "jit")
    assert main(["eval", str(out)]) == 2
    error = capsys.readouterr().err
    assert "Give the folder of the images as `path`" in error
    assert "is an imported model" in error
    assert "`data.path=TRAIN holdout.data.path=HELD_OUT`" in error
    found = [f"data.path={images}/train", "data.num_classes=null"]
    assert main(["eval", str(out), *found]) == 2
    assert "class_names: 8 classes there, 7 classes now" in capsys.readouterr().err


@pytest.fixture
def run(images, tmp_path) -> Path:
    """A run of ours that JiT can express, with two averages."""
    path = save(tmp_path / "c.pth", published_jit.checkpoint())
    out = bring(path, tmp_path / "jit")
    changes = {
        "run_dir": str(tmp_path / "run"),
        "data": {"path": f"{images}/train"},
        "train": {"num_steps": 3, "batch_size": 14, "micro_batch_size": None, "num_workers": 0}
        | {"warmup_samples": 0, "tensorboard": False, "learning_rate": 0.01, "device": "cpu"}
        | {"ema": [{"decay": 0.5}, {"power": 0.1}, {"decay": 0.9}]},
    }
    recipe = tmp_path / "run.yaml"
    recipe.write_text(yaml.safe_dump({"extends": str(out / "recipe.yaml")} | changes))
    train(load_recipe(recipe), say=quiet)
    return tmp_path / "run"


def test_a_run_goes_out_with_its_averages(run, tmp_path) -> None:
    export_model(JiTFormat(), run, tmp_path / "all.pth", say=quiet)
    found = read_back(tmp_path / "all.pth")
    assert found["epoch"] == 3
    assert (found["args"].ema_decay1, found["args"].ema_decay2) == (0.5, 0.9)
    for key, name in (("model", "model"), ("ema1", "decay_0.5"), ("ema2", "decay_0.9")):
        back = bring(tmp_path / "all.pth", tmp_path / key, weights=key)
        assert_same_tensors(
            dict(load(back).sampler.network.state_dict()),
            dict(load(run, weights=name).sampler.network.state_dict()),
        )
    tuned = {"sample": {"weights": "decay_0.9", "cfg_scale": 2.75}, "metric": "fid", "score": 1.0}
    (run / "tuned.yaml").write_text(yaml.safe_dump(tuned | {"num_samples": 8, "step": 3}))
    said: list[str] = []
    export_model(JiTFormat(), run, tmp_path / "tuned.pth", say=said.append)
    best, expected = read_back(tmp_path / "tuned.pth"), found["model_ema2"]
    assert (best["args"].cfg, best["args"].ema_decay1) == (2.75, 0.9)
    assert_same_tensors(best["model_ema1"], expected)
    assert "tuned by fid" in said[0]
    (run / "tuned.yaml").unlink()
    export_model(JiTFormat(), run, tmp_path / "one.pth", weights="power_0.1", say=quiet)
    one, expected = read_back(tmp_path / "one.pth"), load(run, weights="power_0.1")
    name, own = "final_layer.linear.bias", "last_layer.linear.bias"
    for key in ("model", "model_ema1", "model_ema2"):
        assert torch.equal(one[key][PREFIX + name], expected.sampler.network.state_dict()[own])


def test_a_tuned_run_goes_out_as_it_samples(run, tmp_path) -> None:
    tuned = {"weights": "decay_0.9", "cfg_scale": 2.5}
    write_tuned(
        RunFolder(run), Tuned(sample=tuned, metric="frechet", score=1, num_samples=2, step=3)
    )
    export_model(JiTFormat(), run, tmp_path / "tuned.pth", say=quiet)
    assert read_back(tmp_path / "tuned.pth")["args"].cfg == 2.5
    back = load(bring(tmp_path / "tuned.pth", tmp_path / "back"))
    z_t, label = torch.randn(2, *back.shape), [0, 1]
    assert torch.equal(back.predict(z_t, 0.5, label), load(run).predict(z_t, 0.5, label))
