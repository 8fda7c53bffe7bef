"""FID and its companions: truths of the formulas, what is refused, and the whole way on images."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from inception_weights import random_state, write_random_weights
from PIL import Image
from rawdiff_images.fid import FID, eight_bits, fid, moments, precision_recall, read_reference
from rawdiff_images.inception import LOGITS, NUM_FEATURES, POOL, inception, library
from runs import SMALL_MODEL

from rawdiff.assemble import open_data
from rawdiff.cli.main import main
from rawdiff.conditions import real_batch
from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis
from rawdiff.evaluate.report import GENERATED, ORACLE, REFERENCE
from rawdiff.recipe_file import load_recipe
from rawdiff.saved.folder import RunFolder
from rawdiff.train.start import train

if find_spec("torch_fidelity") is None:
    pytest.skip("torch-fidelity is not installed", allow_module_level=True)

RGB = DataInfo((3, 8, 8), ("red", "green", "blue"), value_range=(0, 255))
CPU = torch.device("cpu")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def basis_of(info):
    channels = torch.ones(info.shape[0])
    return Basis(info, None, channels, channels)


def images(num, seed=0):
    values = torch.randint(0, 256, (num, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    return values.float()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_random_weights(tmp_path_factory.mktemp("weights") / "inception.pth")


# ---- the formulas, through the library


def test_a_set_is_at_distance_zero_of_itself_in_any_order() -> None:
    x = normal(200, 6)
    shuffled = x[torch.randperm(200)]
    assert fid(moments(x), moments(x)) == pytest.approx(0, abs=1e-5)
    assert fid(moments(x), moments(shuffled)) == pytest.approx(0, abs=1e-5)


def test_a_shift_of_all_features_is_its_square() -> None:
    x, shift = normal(200, 6), torch.arange(6.0)
    assert fid(moments(x), moments(x + shift)) == pytest.approx(float(shift @ shift), rel=1e-4)


def test_gaussians_have_the_distance_of_the_closed_form() -> None:
    """Diagonal covariances commute: the sum of squared differences of their spreads."""
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.5])
    one = {"mu": torch.zeros(3), "sigma": a.square().diag()}
    two = {"mu": torch.tensor([1.0, 0, 0]), "sigma": b.square().diag()}
    expected = 1 + float((a - b).square().sum())
    assert fid(one, two) == pytest.approx(expected, rel=1e-9)
    assert fid(two, one) == pytest.approx(expected, rel=1e-9)


def test_precision_and_recall_of_equal_sets_are_one_and_of_distant_sets_zero() -> None:
    x = normal(50, 4)
    assert precision_recall(x, x, 3) == {"precision": 1, "recall": 1}
    assert precision_recall(x, x + 100, 3) == {"precision": 0, "recall": 0}


def test_a_model_that_knows_one_mode_of_two_is_precise_with_half_the_recall() -> None:
    one, other = normal(60, 4), normal(60, 4, seed=1) + 100
    found = precision_recall(one, torch.cat((one, other)), 3)
    assert found == {"precision": 1, "recall": 0.5}


def test_the_inception_score_is_the_number_of_classes_that_are_told_apart() -> None:
    """Certain and balanced over five classes: exp of the entropy of five is five."""
    logits = torch.zeros(500, 1008)
    logits[torch.arange(500), torch.arange(500) % 5] = 100
    reference = {"mu": torch.zeros(4), "sigma": torch.eye(4)}
    scores = FID(num_splits=1).score(
        {POOL: normal(500, 4), LOGITS: logits}, reference, basis_of(RGB)
    )
    assert scores["inception_score"] == pytest.approx(5, rel=1e-6)
    assert scores["inception_score_std"] == 0
    assert "precision" not in scores  # moments alone have no neighbours


def test_scores_of_too_few_images_are_left_out() -> None:
    features = {POOL: normal(3, 4), LOGITS: normal(3, 1008)}
    assert set(FID().score(features, features, basis_of(RGB))) == {""}
    one = {name: x[:1] for name, x in features.items()}
    with pytest.raises(UserError, match="a set has 1 images"):
        FID().score(one, features, basis_of(RGB))


# ---- images in


def test_images_are_rounded_to_8_bits_of_three_channels() -> None:
    x = torch.tensor([-3.0, 0.4, 0.6, 254.4, 255.0, 300.0]).view(1, 1, 2, 3)
    grey = DataInfo((1, 2, 3), ("grey",), value_range=(0, 255))
    found = eight_bits(x, grey)
    assert found.shape == (1, 3, 2, 3)
    assert found.dtype == torch.uint8
    for channel in range(3):
        assert found[0, channel].flatten().tolist() == [0, 0, 1, 254, 255, 255]
    sixteen = DataInfo((1, 2, 3), ("ink",), value_range=(-1, 1))
    assert eight_bits(torch.ones(1, 1, 2, 3), sixteen).unique().tolist() == [255]
    colours = images(2)
    assert torch.equal(eight_bits(colours, RGB), colours.to(torch.uint8))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"shape \[4, 8, 8\]"):
        eight_bits(torch.zeros(1, 4, 8, 8), DataInfo((4, 8, 8), tuple("abcd")))
    with pytest.raises(UserError, match="value_range"):
        eight_bits(torch.zeros(1, 3, 8, 8), DataInfo((3, 8, 8), tuple("abc")))
    with pytest.raises(UserError, match="missing"):
        eight_bits(torch.full((1, 3, 8, 8), torch.nan), RGB)


# ---- weights


def test_features_are_those_of_the_weights_in_the_file_and_of_each_image_alone(weights) -> None:
    network = inception(weights, CPU)
    expected = torch.load(weights, weights_only=True)
    assert all(torch.equal(x, expected[name]) for name, x in network.state_dict().items())
    evaluator, x = FID(weights=weights, batch_size=2), images(3)
    together, alone = (evaluator.features(part, basis_of(RGB)) for part in (x, x[2:]))
    assert together[POOL].shape == (3, NUM_FEATURES)
    assert together[LOGITS].shape == (3, 1008)
    for name, values in alone.items():
        assert torch.allclose(values[0], together[name][2], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[POOL][0], together[POOL][1], rtol=1e-3, atol=1e-4)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_the_random_weights_of_the_docs_are_taken(tmp_path, monkeypatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scores.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Random" in b)
    monkeypatch.chdir(tmp_path)
    exec(block, {"__name__": "shown"})
    network = inception(tmp_path / "random_inception.pth", CPU)
    pool, logits = network(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    assert (pool.shape, logits.shape) == ((2, NUM_FEATURES), (2, 1008))
    assert 0.01 < float(pool.std()) < 100


def test_a_malicious_file_of_weights_is_refused_without_being_run(tmp_path) -> None:
    path, trace = tmp_path / "inception.pth", tmp_path / "it ran"
    torch.save({"fc.weight": Malicious(trace)}, path)
    with pytest.raises(UserError, match="refused"):
        inception(path, CPU)
    path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    with pytest.raises(UserError, match="refused"):
        inception(path, CPU)
    assert not trace.exists()


def test_weights_that_do_not_fit_are_named(tmp_path) -> None:
    state = random_state()
    path = tmp_path / "wrong.pth"
    torch.save({name: x for name, x in state.items() if name != "fc.weight"}, path)
    with pytest.raises(UserError, match=r"another network.*fc\.weight"):
        inception(path, CPU)
    broken = tmp_path / "broken.pth"
    state["fc.bias"][3] = torch.nan
    torch.save(state, broken)
    with pytest.raises(UserError, match=r"no finite tensor as `fc\.bias`"):
        inception(broken, CPU)
    for content, said in (
        (broken.read_bytes()[:1000], "is damaged or cut short: .*Fetch it again"),
        (b"\x80\x02what is this", "it is damaged, or no plain pickle"),
        (b"<html>not found</html>", "is no file of torch: it begins with"),
        (b"", "is no file of torch"),
    ):
        broken.write_bytes(content)
        with pytest.raises(UserError, match=said) as error:
            inception(broken, CPU)
        assert str(broken) in str(error.value)
        assert library().network.URL_INCEPTION_V3 in str(error.value)
        assert "weights_only" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        inception(tmp_path / "absent.pth", CPU)


def test_without_the_net_the_error_says_where_the_weights_are(monkeypatch) -> None:
    def refuse(url, **keys):
        assert keys["check_hash"]
        assert keys["weights_only"]
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    url = library().network.URL_INCEPTION_V3
    with pytest.raises(UserError, match=r"no route.*evaluate\.evaluators\.fid\.weights") as error:
        inception(None, CPU)
    assert url in str(error.value)
    assert FID().origin()["weights"] == url


@pytest.mark.parametrize("content", [b"\x80\x02what is this", b"PK\x03\x04 is this", b""])
def test_damaged_weights_in_the_cache_are_named_without_torchs_advice(
    tmp_path, monkeypatch, content
) -> None:
    path = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir()
    path.write_bytes(content)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"is damaged\. Delete it; it is downloaded again") as error:
        inception(None, CPU)
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value)


def test_torchvision_may_be_absent() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from rawdiff_images.inception import library\n"
        "assert library().network.FeatureExtractorInceptionV3\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


# ---- references


def test_a_published_file_gives_its_moments_and_its_images(tmp_path) -> None:
    path = tmp_path / "published.npz"
    mu, sigma = np.arange(NUM_FEATURES, dtype=np.float32), np.eye(NUM_FEATURES)
    np.savez(path, mu=mu, sigma=sigma, mu_s=mu, sigma_s=sigma)
    found = read_reference(path)
    assert found.data is None
    assert found.tensors["mu"].tolist() == mu.tolist()
    assert found.tensors["sigma"].dtype == torch.float64
    np.savez(path, arr_0=np.full((4, 8, 6, 3), 7, dtype=np.uint8))
    found = read_reference(path)
    assert not found.tensors
    assert found.data.info.shape == (3, 8, 6)
    assert len(found.data) == 4


def test_a_folder_of_images_is_cropped_to_the_size_that_is_scored(tmp_path) -> None:
    Image.new("RGB", (20, 12)).save(tmp_path / "wide.png")
    for info in (RGB, DataInfo((1, 6, 6), ("grey",))):
        found = FID(reference=tmp_path).own_reference(basis_of(info))
        assert found.data[0].x.shape == info.shape
    assert FID().own_reference(basis_of(RGB)) is None


def test_images_as_reference_must_have_the_values_of_the_samples(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    path = tmp_path / "published.npz"
    np.savez(path, arr_0=np.zeros((4, 8, 8, 3), dtype=np.uint8))
    info = DataInfo((3, 8, 8), ("red", "green", "blue"), value_range=(-1, 1))
    for reference in (tmp_path, path):
        with pytest.raises(UserError, match=r"values 0 to 255.*are \(-1, 1\)"):
            FID(reference=reference).own_reference(basis_of(info))
    np.savez(path, mu=np.zeros(NUM_FEATURES), sigma=np.eye(NUM_FEATURES))
    assert FID(reference=path).own_reference(basis_of(info)).data is None


def test_a_wrong_reference_is_named(tmp_path) -> None:
    path = tmp_path / "reference.npz"
    for wrong, message in [
        ({"mean": np.zeros(3)}, "holds mean; needed are `mu` and `sigma`"),
        ({"mu": np.zeros(NUM_FEATURES)}, "holds mu; needed"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, r"`mu` in .* has shape \[3\]"),
    ]:
        np.savez(path, **wrong)
        with pytest.raises(UserError, match=message):
            read_reference(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot be read"):
        read_reference(path)
    with pytest.raises(UserError, match="cannot be read"):
        FID(reference=tmp_path / "absent.npz").own_reference(basis_of(RGB))


def test_a_reference_with_pickled_objects_is_refused_without_being_run(tmp_path) -> None:
    path, trace = tmp_path / "reference.npz", tmp_path / "it ran"
    objects = np.array([Malicious(trace)], dtype=object)
    np.savez(path, allow_pickle=True, mu=objects, sigma=objects)
    with pytest.raises(UserError, match="cannot be read"):
        read_reference(path)
    assert not trace.exists()


# ---- the whole way


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on images [3, 8, 8] of two classes, of which 4 of 16 are held out."""
    folder = tmp_path_factory.mktemp("fid")
    for i, pixels in enumerate(images(16).byte().movedim(1, -1).numpy()):
        (folder / "images" / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "images" / f"class{i % 2}" / f"{i}.png")
    recipe = {
        "run_dir": str(folder / "run"),
        "data": {"name": "image_folder", "path": str(folder / "images"), "size": 8},
        "holdout": {"fraction": 0.25},
        "adapter": {"name": "images", "patch_size": 4},
        "model": SMALL_MODEL,
        "train": {"num_steps": 1, "batch_size": 4, "device": "cpu", "tensorboard": False},
        "sample": {"num_steps": 2},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return train(load_recipe(folder / "recipe.yaml"), say=lambda text: None).path


def test_a_killed_fid_goes_on_and_a_published_reference_gives_the_same(
    run, weights, tmp_path, capsys
) -> None:
    keys = f"{{weights: {weights}, num_samples: 8, num_splits: 2, num_neighbours: 2}}"
    overrides = ["sample.batch_size=4", f"evaluate.evaluators.fid={keys}"]
    killed = shutil.copytree(run, tmp_path / "killed")
    tests = Path(__file__).parents[1]
    command = [sys.executable, tests / "toy_scores.py", killed, tmp_path / "log", "fid", 1]
    threads = str(torch.get_num_threads())  # another number sums in another order
    environment = os.environ | {"PYTHONPATH": str(tests), "OMP_NUM_THREADS": threads}
    code = subprocess.run(
        [*map(str, command), overrides[1]], env=environment, timeout=300
    ).returncode
    assert code == -signal.SIGKILL
    assert (tmp_path / "log").read_text() == "[0, 1, 2, 3]\n"
    for path in (killed, run):
        assert main(["eval", str(path), "--metric", "fid", *overrides]) == 0
    shown = capsys.readouterr().out
    assert "4 of 8 generated samples for `fid` are there already" in shown
    assert "8, 4, 12" in shown
    found, whole = (json.loads((p / "scores-fid.json").read_text()) for p in (killed, run))
    assert found["scores"] == whole["scores"]
    assert set(whole["scores"]) == {
        "fid", "fid/inception_score", "fid/inception_score_std", "fid/precision", "fid/recall",
    }  # fmt: skip
    keys = FID().score_keys(RunFolder(run).info())
    assert set(whole["scores"]) == {f"fid/{key}" if key else "fid" for key in keys}
    assert whole["counts"]["fid"] == {GENERATED: 8, ORACLE: 4, REFERENCE: 12}

    published = tmp_path / "published.npz"
    evaluator, data = FID(weights=weights), load_recipe(run / "recipe.yaml")
    write_moments(evaluator, data, published)
    overrides[1] = overrides[1].replace("}", f", reference: {published}}}")
    assert main(["eval", str(run), "--metric", "fid", *overrides, "holdout=null"]) == 0
    assert "8 samples against published.npz" in capsys.readouterr().out
    by_file = json.loads((run / "scores-fid.json").read_text())
    assert by_file["scores"]["fid"][GENERATED] == pytest.approx(
        whole["scores"]["fid"][GENERATED], rel=1e-3
    )
    assert "fid/recall" not in by_file["scores"]
    assert ORACLE not in by_file["scores"]["fid"]


def write_moments(evaluator, recipe, path) -> None:
    """Of all training images, as published files have them."""
    train_data = open_data(recipe).train
    x = real_batch(train_data, range(len(train_data))).x.float()
    found = moments(evaluator.features(x, basis_of(RGB))[POOL])
    np.savez(path, **{name: values.numpy() for name, values in found.items()})
