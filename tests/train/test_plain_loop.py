"""The loop computes what fifty plain lines compute, to the last bit."""

import os

import numpy as np
import torch
from einops import rearrange
from runs import checkpoint_tensors, rawdiff, small_recipe, write_arrays

from rawdiff import philox
from rawdiff.assemble import make_network, make_patcher, open_data, take_statistics
from rawdiff.recipe_file import load_recipe

NUM_STEPS, BATCH_SIZE, MICRO_BATCH_SIZE, RATE, WARMUP, DECAY = 200, 8, 4, 3e-3, 400, 0.99
MEAN, STD = 3.0, 2.0


def plain_loop(network, x, labels, num_classes):
    """Train on x [n, C, H, W]; returns weights, moving averages and AdamW's moments."""
    seed = 0
    network.initialize(seed)
    parameters = dict(network.named_parameters())
    average = {name: p.detach().clone() for name, p in parameters.items()}
    groups = [
        {"params": [p for p in parameters.values() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    for step in range(NUM_STEPS):
        for i in range(0, BATCH_SIZE, MICRO_BATCH_SIZE):
            index = step * BATCH_SIZE + i + torch.arange(MICRO_BATCH_SIZE)
            rows = []
            for place in index.tolist():
                epoch, position = divmod(place, len(x))
                order = philox.permutation(seed, philox.Stream.ORDER, epoch, len(x))
                rows.append(int(order[position]))
            data = (x[rows] - MEAN) / STD
            data = rearrange(data, "b c (h p) (w q) -> b (h w) (p q c)", p=2, q=2)
            n = philox.normal(seed, philox.Stream.TIME, index, 1)[:, 0]
            t = torch.sigmoid(-0.8 + 0.8 * n)
            t_ = t[:, None, None]
            eps = philox.normal(seed, philox.Stream.NOISE, index, data[0].numel()).view_as(data)
            z_t = t_ * data + (1 - t_) * eps
            drop = philox.uniform(seed, philox.Stream.LABEL_DROP, index, 1)[:, 0] < 0.1
            told = torch.where(drop, num_classes, labels[rows])
            x_pred = network(z_t, t, told)
            bound = (1 - t_).clamp(min=0.05)
            error = ((x_pred - z_t) / bound - (data - z_t) / bound).square().flatten(1).sum()
            (error / (BATCH_SIZE * data[0].numel())).backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for group in adamw.param_groups:
            group["lr"] = RATE * min((step + 1) * BATCH_SIZE / WARMUP, 1.0)
        adamw.step()
        adamw.zero_grad()
        for name, p in parameters.items():
            average[name].lerp_(p.detach(), 1 - DECAY)
    return parameters, average, {name: adamw.state[p] for name, p in parameters.items()}


def test_two_hundred_steps_equal_a_plain_loop_to_the_last_bit(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(MEAN, STD, size=(50, 2, 6, 6)).astype(np.float32)
    labels = random.integers(0, 3, 50)
    path = small_recipe(
        tmp_path,
        write_arrays(tmp_path, x=x, labels=labels),
        [2, 2],
        standardization={"mode": "fixed", "mean": MEAN, "std": STD},
        train={
            "num_steps": NUM_STEPS,
            "micro_batch_size": MICRO_BATCH_SIZE,
            "learning_rate": RATE,
            "warmup_samples": WARMUP,
            "weight_decay": 0.1,
            "ema": [{"decay": DECAY}],
        },
        checkpoint={"every_steps": NUM_STEPS},
    )
    recipe = load_recipe(path)
    data = open_data(recipe)
    patcher = make_patcher(
        recipe, data.train.info, take_statistics(recipe, data.train), torch.device("cpu")
    )
    network = make_network(recipe, data.train.info, patcher).to_empty(device="cpu")
    network.place()
    weights, average, moments = plain_loop(
        network.train(), torch.from_numpy(x), torch.from_numpy(labels), 3
    )
    assert all(p.isfinite().all() for p in weights.values())

    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # others sum in another order
    done = rawdiff("train", path, env=os.environ | threads)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = checkpoint_tensors(tmp_path / "run", NUM_STEPS)
    for name, p in weights.items():
        assert torch.equal(saved[f"model.{name}"], p), name
        assert torch.equal(saved[f"ema.decay_{DECAY}.{name}"], average[name]), name
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(saved[f"optimizer.{name}.{moment}"], moments[name][moment]), name
