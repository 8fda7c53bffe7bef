"""One core for all: arrays of one to four dims, with everything that a sample may bring."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import metrics, small_recipe, write_arrays

import rawdiff
from rawdiff.recipe_file import load_recipe
from rawdiff.train.start import train

NUM = 96


def waves(*sizes: int) -> tuple[np.ndarray, np.ndarray]:
    """A plane wave of one of two wavelengths, with random phase: [n, 1, …] and its label."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, NUM)
    grids = np.meshgrid(*(np.arange(size) / size for size in sizes), indexing="ij")
    phase = random.random((NUM, *(1,) * len(sizes)))
    turns = (labels + 1).reshape(NUM, *(1,) * len(sizes))
    x = np.sin(2 * np.pi * (turns * sum(grids) + phase))
    return 250 + 30 * x[:, None].astype(np.float32), labels


def trained(folder: Path, patch_size: list[int], arrays: dict[str, np.ndarray], **changes):
    """Losses of the first and last steps, and the model."""
    changes = {
        "train": {"num_steps": 150, "device": "cpu"},
        "checkpoint": {"every_steps": 150},
    } | changes
    recipe = small_recipe(folder, write_arrays(folder, **arrays), patch_size, **changes)
    run = train(load_recipe(recipe), say=lambda text: None)
    losses = [line["loss"] for line in metrics(run.path)]
    return np.mean(losses[:3]), np.mean(losses[-20:]), rawdiff.load(run.path)


@pytest.mark.parametrize(
    ("sizes", "patch_size"),
    [([32], [4]), ([8, 10], [2, 5]), ([4, 6, 6], [2, 3, 3]), ([2, 4, 4, 4], [1, 2, 2, 2])],
)
def test_arrays_of_one_to_four_dims_are_learnt(tmp_path, sizes, patch_size) -> None:
    x, labels = waves(*sizes)
    first, last, model = trained(tmp_path, patch_size, {"x": x, "labels": labels})
    assert last < 0.6 * first
    samples = model.sample(6, label=[0, 1] * 3, seed=1, cfg_scale=1.5)
    assert samples.shape == (6, 1, *sizes)
    assert samples.isfinite().all()
    assert abs(float(samples.mean()) - 250) < 20


def test_context_that_tells_the_answer_is_used(tmp_path) -> None:
    x, _ = waves(8, 8)
    told = {"x": x, "context": np.concatenate((x, 0 * x), axis=1) / 7}
    _, last_told, model = trained(tmp_path, [4, 4], told)
    (tmp_path / "b").mkdir()
    _, last, _ = trained(tmp_path / "b", [4, 4], {"x": x})
    assert last_told < 0.6 * last
    samples = model.sample(4, context=torch.from_numpy(told["context"][:4]))
    assert samples.isfinite().all()
    with pytest.raises(rawdiff.UserError, match="needs `context`"):
        model.sample(4)


def test_scalars_with_gaps_are_a_condition(tmp_path) -> None:
    x, _ = waves(16)
    scalars = x.mean(axis=(1, 2))[:, None] + np.arange(3)
    scalars[::5, 1] = np.nan
    first, last, model = trained(tmp_path, [4], {"x": x, "scalars": scalars.astype(np.float32)})
    assert last < 0.7 * first
    assert model.sample(2, scalars=torch.tensor([[250.0, torch.nan, 252.0]] * 2)).isfinite().all()
    assert model.sample(2).isfinite().all()


@pytest.mark.parametrize("varying", [True, False])
def test_missing_values_stay_out_of_the_loss_and_of_the_samples(tmp_path, varying) -> None:
    x, _ = waves(8, 8)
    x[:, :, :4, :4] = np.nan  # land: a whole patch in every sample
    if varying:
        x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    first, last, model = trained(tmp_path, [4, 4], {"x": x})
    assert np.isfinite(last)
    assert last < 0.7 * first
    samples = model.sample(3)
    assert samples[:, :, :4, :4].isnan().all()
    assert samples.isnan().sum() == 3 * 16
    assert abs(float(samples.nanmean()) - 250) < 20


def test_weights_tell_the_loss_what_counts(tmp_path) -> None:
    x, _ = waves(8, 8)
    x[:, :, 4:] = 250 + 30 * np.random.default_rng(0).normal(size=x[:, :, 4:].shape)
    weight = np.ones((NUM, 1, 8, 8), dtype=np.float32)
    _, last, _ = trained(tmp_path, [4, 4], {"x": x, "weight": weight})
    weight[:, :, 4:] = 0  # the half that is pure noise cannot be learnt
    (tmp_path / "b").mkdir()
    _, last_weighted, _ = trained(tmp_path / "b", [4, 4], {"x": x, "weight": weight})
    assert last_weighted < 0.8 * last


def test_odd_sizes_are_padded_and_come_back(tmp_path) -> None:
    x, _ = waves(7, 9)
    first, last, model = trained(tmp_path, [2, 4], {"x": x})
    assert last < 0.7 * first
    assert model.sample(2).shape == (2, 1, 7, 9)
    assert model.sample(2).isfinite().all()


def test_sample_number_i_is_the_same_however_it_is_drawn(tmp_path) -> None:
    x, labels = waves(8, 8)
    _, _, model = trained(
        tmp_path, [4, 4], {"x": x, "labels": labels}, train={"num_steps": 20, "device": "cpu"}
    )
    whole = model.sample(10, label=1, seed=3)
    parts = torch.cat([model.sample(5, label=1, seed=3, first_index=i) for i in (0, 5)])
    assert torch.allclose(whole, parts, atol=1e-3)
    assert not torch.allclose(whole, model.sample(10, label=1, seed=4), atol=1)
    assert not torch.allclose(whole[0], whole[1], atol=1)


def test_predict_takes_and_returns_standardized_raw_shapes(tmp_path) -> None:
    x, labels = waves(8, 8)
    _, _, model = trained(tmp_path, [4, 4], {"x": x, "labels": labels})
    z = torch.from_numpy((x[:8] - 250) / 21.2)
    x_pred = model.predict(z, 0.95, label=torch.from_numpy(labels[:8]))
    assert x_pred.shape == z.shape
    assert float((x_pred - z).square().mean()) < 0.2
    none = model.predict(z, 0.95, label=2)
    assert torch.equal(none, model.predict(z, 0.95))
    with pytest.raises(rawdiff.UserError, match="must have shape"):
        model.predict(z[:, :, :4], 0.5)
    with pytest.raises(rawdiff.UserError, match="Label 3 does not exist"):
        model.predict(z, 0.5, label=3)
