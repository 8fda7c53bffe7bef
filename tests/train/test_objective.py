"""What training gives the network to see, and what the optimizer does with it."""

import numpy as np
import pytest
import torch
from runs import small_recipe, write_arrays
from torch import nn

from rawdiff.assemble import make_network, make_patcher, materialize, open_data, take_statistics
from rawdiff.data.loading import run_batches
from rawdiff.model.initialize import initialize
from rawdiff.recipe_file import load_recipe
from rawdiff.train.objective import Objective, _Draws
from rawdiff.train.state import TrainState
from rawdiff.train.step import Training

CPU = torch.device("cpu")


def setting(tmp_path, arrays, *overrides, **changes):
    """Objective, state and the first batch of a small recipe."""
    path = small_recipe(tmp_path, write_arrays(tmp_path, **arrays), [2], **changes)
    recipe = load_recipe(path, overrides)
    data = open_data(recipe)
    statistics = take_statistics(recipe, data.train)
    patcher = make_patcher(recipe, data.train.info, statistics, CPU)
    network = materialize(make_network(recipe, data.train.info, patcher), CPU)
    initialize(network, recipe.seed)
    batches = run_batches(data.train, seed=0, batch_size=8, start=0, num_workers=0)
    return Objective(recipe, patcher, data.train, CPU), TrainState(recipe, network), next(batches)


class Spy(nn.Module):
    has_class_head = False

    def forward(self, z_t, t, label, **known):
        self.seen = {"z": z_t, "t": t, "label": label, **known}
        return torch.zeros_like(z_t)


def test_missing_values_are_hidden_from_the_network_and_from_the_loss(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 1, 6)).astype(np.float32)
    x[:, :, :2] = np.nan
    x[::2, :, 2] = np.nan
    objective, _, batch = setting(tmp_path, {"x": x})
    prepared, spy = objective.prepare(batch), Spy()
    errors = objective.errors(spy, prepared, objective.add_noise(prepared))
    known = ~batch.x.isnan().view(8, 3, 2)
    assert torch.equal(spy.seen["z"] == 0, ~known)
    assert torch.equal(spy.seen["present"], known.any(-1))
    assert torch.equal(spy.seen["extra"], known.float())
    assert objective.weight(batch) == int(known.sum())
    noised = objective.add_noise(prepared)
    v = noised.x - noised.eps
    gap = (1 - noised.t).clamp(min=0.05) / (1 - noised.t)
    mean = [
        float(((v[i] - (-noised.z_t[i] / (1 - noised.t[i]))) ** 2)[known[i]].mean() / gap[i] ** 2)
        for i in range(8)
    ]
    assert errors.per_sample.tolist() == pytest.approx(mean, rel=1e-3)


def test_scalars_reach_the_network_standardized(tmp_path) -> None:
    scalars = (100 + 10 * np.random.default_rng(0).normal(size=(20, 2))).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(20, 1, 6)).astype(np.float32)
    objective, _, batch = setting(tmp_path, {"x": x, "scalars": scalars})
    prepared, spy = objective.prepare(batch), Spy()
    objective.errors(spy, prepared, objective.add_noise(prepared))
    assert float(spy.seen["scalars"].abs().max()) < 4


def test_draws_of_one_sample_never_repeat_and_do_not_depend_on_the_batch() -> None:
    whole, part = _Draws(0, torch.arange(6)), _Draws(0, torch.tensor([4]))
    first, second = whole(2), whole(2)
    assert not (first == second).any()
    assert torch.equal(part(1), first[4:5, :1])
    assert torch.equal(part(3), torch.cat((first, second), 1)[4:5, 1:])


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision_is_that_of_the_recipe_and_the_last_layer_is_exact(
    tmp_path, precision, expected
) -> None:
    x = np.random.default_rng(1).normal(size=(20, 1, 6)).astype(np.float32)
    objective, state, batch = setting(tmp_path, {"x": x}, f"train.precision={precision}")
    found = {}
    block, last = state.network.blocks[0], state.network.last_layer
    block.attn.qkv.register_forward_hook(lambda m, i, out: found.update(qkv=out.dtype))
    block.register_forward_hook(lambda m, i, out: found.update(stream=out.dtype))
    last.register_forward_hook(lambda m, i, out: found.update(last=out.dtype))
    prepared = objective.prepare(batch)
    objective.errors(state.network, prepared, objective.add_noise(prepared))
    assert found == {"qkv": expected, "stream": torch.float32, "last": torch.float32}
    assert {p.dtype for p in state.network.parameters()} == {torch.float32}


def test_weight_decay_acts_on_matrices_alone(tmp_path) -> None:
    x = np.zeros((20, 1, 6), dtype=np.float32)
    _, state, _ = setting(tmp_path, {"x": x}, "train.weight_decay=0.5")
    decays = {
        id(p): group["weight_decay"]
        for group in state.optimizer.param_groups
        for p in group["params"]
    }
    for parameter in state.network.parameters():
        assert decays[id(parameter)] == (0.5 if parameter.dim() >= 2 else 0)


@pytest.mark.parametrize(("limit", "expected"), [("0.01", 0.01), ("null", None)])
def test_gradients_are_clipped_as_asked(tmp_path, limit, expected) -> None:
    x = np.random.default_rng(1).normal(size=(20, 1, 6)).astype(np.float32)
    objective, state, batch = setting(tmp_path, {"x": x}, f"train.clip_norm={limit}")
    prepared = objective.prepare(batch)
    errors = objective.errors(state.network, prepared, objective.add_noise(prepared))
    (errors.total / objective.weight(batch)).backward()
    before = float(Training(state, objective).clip_gradients())
    gradients = [p.grad for p in state.network.parameters() if p.grad is not None]
    after = float(torch.nn.utils.get_total_norm(gradients))
    assert before > 0.01
    assert after == pytest.approx(expected or before, rel=1e-3)


def test_the_gradient_of_micro_batches_is_that_of_the_batch_with_gaps_and_weights(tmp_path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 1, 6)).astype(np.float32)
    x[random.random(x.shape) < 0.3] = np.nan
    weight = random.random((20, 1, 6)).astype(np.float32)
    arrays = {"x": x, "weight": weight, "labels": np.arange(20) % 3}
    objective, state, batch = setting(tmp_path, arrays, "model.class_head=1")

    def gradient(size: int) -> torch.Tensor:
        state.network.zero_grad()
        for part in batch.split(size):
            prepared = objective.prepare(part)
            errors = objective.errors(state.network, prepared, objective.add_noise(prepared))
            (errors.total / objective.weight(batch)).backward()
        grads = [p.grad.flatten() for p in state.network.parameters() if p.grad is not None]
        return torch.cat(grads)

    whole = gradient(8)
    assert state.network.class_head.weight.grad.norm() > 0
    for size in (1, 3):
        assert float((gradient(size) - whole).norm() / whole.norm()) < 1e-5


def test_the_class_loss_stands_beside_the_sum_of_squared_errors(tmp_path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(20, 1, 6)).astype(np.float32),
        "labels": np.arange(20) % 3,
    }
    totals = []
    for weight in (0.0, 2.0):
        objective, state, batch = setting(
            tmp_path,
            arrays,
            f"train.class_loss_weight={weight}",
            "model.class_head=1",
            "flow.label_drop=1",  # the head learns from the true label all the same
        )
        prepared = objective.prepare(batch)
        errors = objective.errors(state.network, prepared, objective.add_noise(prepared))
        totals.append(errors.total)
    head = state.network.class_head
    totals[1].backward()
    with torch.no_grad():
        noised = objective.add_noise(prepared)
        _, logits = state.network(noised.z_t, noised.t, class_logits=True)
    entropy = nn.functional.cross_entropy(logits, batch.label, reduction="sum")
    torch.testing.assert_close(totals[1] - totals[0], 2 * entropy)
    assert head.weight.grad.abs().sum() > 0
