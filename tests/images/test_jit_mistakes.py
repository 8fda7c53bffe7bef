"""What is no published JiT checkpoint is refused, unrun; what JiT cannot express is named."""

import argparse
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import published_jit
import pytest
import torch
import yaml
from jit_files import bring, quiet, read_back, save
from rawdiff_images.jit import JiTFormat
from rawdiff_images.jit_layout import measure as measure_tensors
from rawdiff_images.jit_settings import Arguments, make_layout, to_namespace

from rawdiff.cli.main import main
from rawdiff.data.statistics import Statistics
from rawdiff.errors import UserError
from rawdiff.exchange.checkpoints import export_model
from rawdiff.recipe_file import read_yaml
from rawdiff.run import load


class Hostile:
    """Unpickled by the usual road, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


def test_a_hostile_pickle_leaves_a_file_where_it_is_run(tmp_path) -> None:
    """The attack that the next test refuses would work."""
    pickle.loads(pickle.dumps(Hostile(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("way", ["pickle", "torch", "old torch", "namespace", "names"])
def test_a_hostile_file_is_refused_and_not_run(tmp_path, capsys, way) -> None:
    path, mark = tmp_path / "checkpoint-last.pth", tmp_path / "mark"
    checkpoint = published_jit.checkpoint() | {"optimizer": Hostile(mark)}
    if way == "pickle":
        path.write_bytes(pickle.dumps(Hostile(mark)))
    elif way == "torch":
        save(path, checkpoint)
    elif way == "old torch":
        torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    elif way == "namespace":
        args = argparse.Namespace(model="JiT-B/16", img_size=Hostile(mark))
        save(path, published_jit.checkpoint() | {"args": args})
    else:
        save(path, published_jit.checkpoint() | {"args": argparse.Namespace(**{"x": Path("/")})})
    assert main(["import", "jit", str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "refused, and nothing of it was run" in error
    assert "argparse.Namespace" in error
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def damage(checkpoint: dict[str, Any], key: str) -> dict[str, Any]:
    tensors = checkpoint["model_ema1"]
    name = "net.blocks.1.attn.qkv.weight"
    if key == "missing":
        del tensors[name]
    elif key == "unknown":
        tensors["net.blocks.1.attn.rel_bias"] = torch.ones(3)
    elif key == "shape":
        tensors[name] = tensors[name][:-1]
    elif key == "not floats":
        tensors[name] = torch.ones(tensors[name].shape, dtype=torch.int64)
    elif key == "no tensor":
        tensors[name] = [1.0]
    elif key == "nan":
        tensors[name][3, 4] = torch.nan
    elif key == "table":
        tensors["net.pos_embed"] = tensors["net.pos_embed"] + 0.01
    elif key == "twice":
        tensors["net.module.blocks.1.attn.qkv.weight"] = tensors[name]
    elif key == "no class":
        tensors["net.y_embedder.embedding_table.weight"] = torch.ones(1, 24)
    elif key == "heads":
        tensors["net.blocks.0.attn.q_norm.weight"] = torch.ones(6)
    elif key == "positions":
        tensors["net.pos_embed"] = torch.ones(1, 8, 24)
    elif key == "channels":
        tensors["net.x_embedder.proj1.weight"] = torch.ones(5, 4, 2, 2)
    elif key == "dims":
        tensors["net.x_embedder.proj1.weight"] = torch.ones(5, 12)
    elif key == "prefix":
        checkpoint["model_ema1"] = {n.removeprefix("net."): t for n, t in tensors.items()}
    elif key == "no average":
        del checkpoint["model_ema1"]
    elif key == "img_size":
        checkpoint["args"].img_size = 256
    elif key == "class_num":
        checkpoint["args"].class_num = 1000
    elif key == "kind":
        checkpoint["args"].noise_scale = torch.ones(3)
    elif key == "args":
        checkpoint["args"] = 7
    elif key == "solver":
        checkpoint["args"].sampling_method = "dopri5"
    return checkpoint


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("missing", "`net.blocks.1.attn.qkv.weight` is missing"),
        ("unknown", "`net.blocks.1.attn.rel_bias` is unknown"),
        ("shape", r"`net.blocks.1.attn.qkv.weight` has shape \[71, 24\] instead of \[72, 24\]"),
        ("not floats", "`net.blocks.1.attn.qkv.weight` of .* is no tensor of floats, but .*int64"),
        ("no tensor", "`net.blocks.1.attn.qkv.weight` of .* is no tensor of floats, but list"),
        ("nan", "`net.blocks.1.attn.qkv.weight` of .* not finite"),
        ("table", r"`net.pos_embed` of .* is not the published .* \(off by 0.01\)"),
        ("twice", "holds `net.blocks.1.attn.qkv.weight` twice"),
        ("no class", "has one row"),
        ("heads", "heads of width 6"),
        ("positions", "8 positions, which make no square"),
        ("channels", "images with 4 channels"),
        ("dims", r"`net.x_embedder.proj1.weight` of .* has shape \[5, 12\]; 4 dims"),
        ("prefix", "`pos_embed`, but published names begin with `net.`"),
        ("no average", "no weights `model_ema1`; it holds `model`.* Choose `--weights model`"),
        ("img_size", r"`args.img_size` of .* is 256, but its tensors have 6 pixels"),
        ("class_num", r"`args.class_num` of .* is 1000, but its tensors have 7 classes"),
        ("kind", "`args.noise_scale`: Input should be a valid number"),
        ("args", "`args` of .* is no argparse.Namespace, but int"),
        ("solver", "`args.sampling_method`: Input should be 'heun' or 'euler'"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_named(tmp_path, key, said) -> None:
    path = save(tmp_path / "c.pth", damage(published_jit.checkpoint(), key))
    with pytest.raises(UserError, match=said):
        bring(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no file of torch"),
        (b"#!/bin/sh\n", "no file of torch"),
        ("cut", "damaged or cut short"),
        (b"\x80\x02what is this", "it is damaged, or no plain pickle of tensors"),
        ("zip", "damaged or cut short"),
        ("list", "no weights `model_ema1`; it holds list"),
        ("bare", "no weights `model_ema1`; it holds `net.pos_embed`"),
    ],
)
def test_what_is_no_checkpoint_is_said(tmp_path, content, said) -> None:
    path = save(tmp_path / "c.pth", published_jit.checkpoint())
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    elif content == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("hello", "world")
    elif content == "list":
        save(path, [1, 2])
    else:
        save(path, published_jit.checkpoint()["model"])
    with pytest.raises(UserError, match=said):
        bring(path, tmp_path / "out")
    with pytest.raises(UserError, match="There is no file"):
        bring(tmp_path / "other.pth", tmp_path / "out")


def test_where_in_context_patches_come_must_be_said(tmp_path) -> None:
    odd = save(tmp_path / "odd.pth", published_jit.checkpoint())
    with pytest.raises(UserError, match=r"`JiT-odd`, none of the published.*--in-context-start N"):
        bring(odd, tmp_path / "out", in_context_start=None)
    liar = save(tmp_path / "liar.pth", published_jit.checkpoint(name="JiT-B/16"))
    with pytest.raises(UserError, match="calls itself `JiT-B/16`, but its tensors have width 24"):
        bring(liar, tmp_path / "out", in_context_start=None)
    assert load(bring(liar, tmp_path / "out")).recipe.model.size is None
    with pytest.raises(UserError, match="in_context_start 3 must lie before the last of 3"):
        bring(odd, tmp_path / "other", in_context_start=3)


@pytest.mark.parametrize(
    ("section", "change", "said"),
    [
        ("model", {"qk_norm": False}, "`model.qk_norm` is False, and JiT has True"),
        ("model", {"swiglu": False}, "`model.swiglu` is False"),
        ("model", {"swiglu_multiple": 48}, "`model.swiglu_multiple: 48` makes the MLP 96 wide"),
        ("model", {"in_context_len": 0}, r":\n  - it has no in-context patches [^\n]*\n`rawdiff"),
        ("model", {"bottleneck": None}, r":\n  - it has no bottleneck [^\n]*\n`rawdiff"),
        ("model", {"heads": 4}, "its heads are 6 wide"),
        ("flow", {"prediction": "v"}, "`flow.prediction` is v, and JiT has x"),
        ("adapter", {"patch_size": [2, 3]}, "2 x 3 are not square"),
        ("adapter", {"patch_size": [4, 4], "pad": True}, "need padding"),
        ("adapter", {"name": "grid", "patch_size": [2, 2]}, "its adapter is not `images`"),
    ],
)
def test_what_jit_cannot_express_is_named(tmp_path, section, change, said) -> None:
    path = save(tmp_path / "c.pth", published_jit.checkpoint())
    out = bring(path, tmp_path / "jit")
    recipe = read_yaml(out / "recipe.yaml")
    recipe[section] = change if "name" in change else recipe[section] | change
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError, match=said):
        export_model(JiTFormat(), out, tmp_path / "back.pth", say=quiet)
    assert not (tmp_path / "back.pth").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [3, 6, 8]}, "no square images"),
        ({"shape": [2, 6, 6]}, "no square images"),
        ({"class_names": []}, "no classes"),
        ({"scalar_names": ["age"]}, "scalars or context"),
        ({"value_range": [0, 16]}, "not 8-bit pixels"),
    ],
)
def test_data_that_jit_cannot_express_are_named(tmp_path, change, said) -> None:
    out = bring(save(tmp_path / "c.pth", published_jit.checkpoint()), tmp_path / "jit")
    facts = json.loads((out / "data.json").read_text()) | change
    (out / "data.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=said):
        export_model(JiTFormat(), out, tmp_path / "back.pth", say=quiet)


def test_settings_that_jit_does_not_know_are_named(tmp_path) -> None:
    model = load(bring(save(tmp_path / "c.pth", published_jit.checkpoint()), tmp_path / "jit"))
    tensors = {key: torch.empty(s) for key, s in published_jit.shapes(**published_jit.TINY).items()}
    layout = make_layout(measure_tensors(tensors, "file"), Arguments(), 1, "file")
    for change, said in (
        ({"solver": "midpoint"}, r"`args.sampling_method`.*midpoint"),
        ({"times": "edm"}, "`sample.times: edm`"),
    ):
        sample = model.recipe.sample.model_copy(update=change)
        recipe = model.recipe.model_copy(update={"sample": sample})
        with pytest.raises(UserError, match=said):
            to_namespace(layout, recipe, ("model", "model"))


def test_missing_values_cannot_be_expressed(tmp_path) -> None:
    out = bring(save(tmp_path / "c.pth", published_jit.checkpoint()), tmp_path / "jit")
    file = out / "statistics.safetensors"
    whole = Statistics.load(file)
    for change in ({"missing_varies": True}, {"ever_present": torch.zeros(3, 6, 6) > 0}):
        replace(whole, **change).save(file)
        with pytest.raises(UserError, match="missing values"):
            export_model(JiTFormat(), out, tmp_path / "back.pth", say=quiet)


def test_nothing_is_written_over(tmp_path) -> None:
    path = save(tmp_path / "c.pth", published_jit.checkpoint())
    out = bring(path, tmp_path / "jit")
    with pytest.raises(UserError, match="is there already"):
        bring(path, out)
    with pytest.raises(UserError, match="there already"):
        export_model(JiTFormat(), out, path, say=quiet)
    with pytest.raises(UserError, match="a folder; give a file"):
        export_model(JiTFormat(), out, tmp_path, say=quiet)
    assert read_back(path)["epoch"] == 3


def test_unknown_formats_and_options_are_named(tmp_path, capsys) -> None:
    path = save(tmp_path / "c.pth", published_jit.checkpoint())
    assert main(["import", "jitt", str(path), str(tmp_path / "out")]) == 2
    assert "Did you mean `jit`?" in capsys.readouterr().err
    command = ["import", "jit", str(path), str(tmp_path / "out")]
    assert main([*command, "--weights", "ema3"]) == 2
    assert "`weights`" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["import", "jit", "--help"])
    assert "--in-context-start" in capsys.readouterr().out
    out = bring(path, tmp_path / "jit")
    assert main(["export", str(out), str(tmp_path / "b.pth"), "--format", "diffusers"]) == 2
    assert "No plug-in `diffusers` in rawdiff.formats" in capsys.readouterr().err
