"""What must hold on a GPU, too; skipped where there is none."""

import numpy as np
import pytest
import torch
from runs import checkpoint_tensors, metrics, small_recipe, write_arrays

import rawdiff
from rawdiff import philox
from rawdiff.averages.ema import EMA
from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.initialize import initialize
from rawdiff.model.network import Interface
from rawdiff.model.transformer import Transformer, TransformerSettings
from rawdiff.recipe import EMASettings, GuardSettings
from rawdiff.recipe_file import load_recipe
from rawdiff.train.guard import Guard
from rawdiff.train.muon import Muon
from rawdiff.train.optimizer import take_step
from rawdiff.train.start import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def test_random_bits_are_those_of_the_cpu() -> None:
    index = torch.arange(5) + (1 << 33)
    ours = philox.random_bits(3, philox.Stream.NOISE, index.cuda(), 1001)
    assert torch.equal(ours.cpu(), philox.random_bits(3, philox.Stream.NOISE, index, 1001))
    normals = philox.normal(3, philox.Stream.NOISE, index.cuda(), 1001).cpu()
    assert torch.allclose(normals, philox.normal(3, philox.Stream.NOISE, index, 1001), atol=1e-5)


def test_the_network_agrees_with_the_cpu() -> None:
    grid = PatchGrid((Axis.regular("row", 8), Axis.regular("column", 8)))
    settings = TransformerSettings(
        width=128, depth=4, heads=4, in_context_len=4, in_context_start=1
    )
    model = Transformer(settings, Interface(12, num_classes=3), grid)
    initialize(model, seed=0)
    torch.nn.init.normal_(model.last_layer.linear.weight, std=0.02)
    z, t, label = torch.randn(4, 64, 12), torch.rand(4), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        expected = model(z, t, label)
        found = model.cuda()(z.cuda(), t.cuda(), label.cuda()).cpu()
        with torch.autocast("cuda", torch.bfloat16):
            rough = model(z.cuda(), t.cuda(), label.cuda())
    assert float((found - expected).norm() / expected.norm()) < 1e-3
    assert rough.dtype == torch.float32
    assert float((rough.cpu() - expected).norm() / expected.norm()) < 3e-2


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_step_is_judged_and_taken_or_skipped_without_waiting_for_the_gpu(name) -> None:
    network = torch.nn.Linear(64, 64, device="cuda")
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    if name == "muon":
        groups = [
            {"params": [network.weight], "weight_decay": 0.1, "parts": 2},
            {"params": [network.bias], "weight_decay": 0.0},
        ]
        optimizer = Muon(groups, lr=1e-3, betas=(0.9, 0.95), dtype=torch.bfloat16)
    ema = EMA(EMASettings(decay=0.9), network)
    guard = Guard(GuardSettings(), torch.device("cuda"))
    norms = torch.ones(60, device="cuda")
    norms[40], norms[50] = 1e6, float("nan")
    kept = []
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # makes its moments
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(60):
            taken = guard.judge(norms[0], norms[step])
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter) * norms[step]
            before = [network.weight.detach().clone(), ema.weights["weight"].clone()]
            take_step(optimizer, taken)
            ema.update(network, samples=step + 1, batch_size=1, taken=taken)
            after = (network.weight, ema.weights["weight"])
            same = [(a == b).all() for a, b in zip(before, after, strict=True)]
            kept.append(torch.stack(same).all())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [i for i, same in enumerate(kept) if same] == [40, 50]
    assert int(guard.skipped) == 2


def test_a_run_learns_and_goes_on_in_bfloat16(tmp_path) -> None:
    grids = np.meshgrid(np.arange(16), np.arange(16))
    phase = np.random.default_rng(0).random((64, 1, 1, 1)) * 6
    x = np.sin(sum(grids) / 3 + phase).astype(np.float32)
    x[:, :, :4, :4] = np.nan
    recipe = small_recipe(
        tmp_path, write_arrays(tmp_path, x=x), [4, 4], train={"device": "cuda", "num_steps": 200}
    )
    train(load_recipe(recipe, ["train.num_steps=100"]), say=lambda text: None)
    run = train(load_recipe(recipe), say=lambda text: None)
    losses = [line["loss"] for line in metrics(run.path)]
    assert len(losses) == 200
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:3])
    samples = rawdiff.load(run.path).sample(4)
    assert samples.isnan().sum() == 4 * 16


def test_what_is_saved_beside_the_steps_is_the_state_of_its_step(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(64, 1, 16, 16)).astype(np.float32)
    recipe = small_recipe(
        tmp_path,
        write_arrays(tmp_path, x=x),
        [4, 4],
        train={"device": "cuda", "num_steps": 12},
        checkpoint={"every_steps": 3, "keep_last": 9},
    )
    saved = {}
    for mode in ("sync", "thread"):
        keys = [f"checkpoint.mode={mode}", f"run_dir={tmp_path / mode}"]
        train(load_recipe(recipe, keys), say=lambda text: None)
        saved[mode] = checkpoint_tensors(tmp_path / mode, 6)
    for name in ("model.last_layer.linear.weight", "step"):
        assert torch.allclose(saved["thread"][name], saved["sync"][name], rtol=1e-4, atol=1e-6)
    later = checkpoint_tensors(tmp_path / "thread", 9)["model.last_layer.linear.weight"]
    assert not torch.allclose(later, saved["thread"]["model.last_layer.linear.weight"], rtol=1e-3)
