"""Learning rate and averages are functions of the samples seen."""

import math

import pytest
import torch
from torch import nn

from rawdiff.averages.ema import EMA, beta, lerp_if, power_exponent
from rawdiff.recipe import EMASettings, TrainSettings
from rawdiff.train.schedule import learning_rate

TAKEN = torch.tensor(True)


def _train(**keys) -> TrainSettings:
    return TrainSettings(num_steps=100, batch_size=10, learning_rate=1.0, **keys)


def test_warm_up_rises_linearly_then_stays() -> None:
    train = _train(warmup_samples=100)
    assert learning_rate(train, 0) == pytest.approx(0.1)
    assert learning_rate(train, 40) == pytest.approx(0.5)
    assert learning_rate(train, 90) == learning_rate(train, 990) == 1.0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_ends_where_it_should(schedule) -> None:
    train = _train(schedule=schedule, warmup_samples=100, final_learning_rate=0.1)
    assert learning_rate(train, 90) == pytest.approx(1.0)
    assert learning_rate(train, 990) == pytest.approx(0.1)
    middle = learning_rate(train, 540)
    assert middle == pytest.approx(0.55)
    falling = [learning_rate(train, samples) for samples in range(90, 1000, 10)]
    assert falling == sorted(falling, reverse=True)


def test_learning_rate_does_not_depend_on_micro_batches() -> None:
    train, other = _train(schedule="cosine"), _train(schedule="cosine", micro_batch_size=5)
    assert learning_rate(train, 500) == learning_rate(other, 500)


def test_constant_decay_has_its_closed_form() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    ema = EMA(EMASettings(decay=0.9), network)
    nn.init.constant_(network.weight, 1.0)
    for step in range(1, 21):
        ema.update(network, samples=10 * step, batch_size=10, taken=TAKEN)
    assert float(ema.weights["weight"]) == pytest.approx(1 - 0.9**20, rel=1e-5)


def test_a_power_average_weighs_step_t_by_t_to_the_gamma() -> None:
    settings = EMASettings(power=0.1)
    gamma = power_exponent(0.1)
    assert gamma == pytest.approx(6.94, abs=0.01)  # Karras et al. 2024, table 2
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    ema = EMA(settings, network)
    steps = torch.arange(1, 2001, dtype=torch.float64)
    for step in steps:
        nn.init.constant_(network.weight, float(step) / 2000)
        ema.update(network, samples=8 * int(step), batch_size=8, taken=TAKEN)
    weights = steps**gamma
    expected = float((weights * steps / 2000).sum() / weights.sum())
    assert float(ema.weights["weight"]) == pytest.approx(expected, rel=2e-3)


def test_the_first_step_of_a_power_average_forgets_the_first_weights() -> None:
    assert beta(EMASettings(power=0.05), samples=32, batch_size=32) == 0


@pytest.mark.parametrize("taken", [True, False])
def test_a_choice_on_the_device_takes_the_weights_in_or_changes_not_one_bit(taken) -> None:
    old = torch.tensor([0.3, -0.0, math.inf, -1.7])  # a share of 0 would change two of them
    weight = torch.tensor([1.1, 2.0, -math.inf, 0.4])
    expected = old.lerp(weight, 0.1) if taken else old.clone()
    lerp_if(torch.tensor(taken), old, weight, 0.1)
    assert torch.equal(old.view(torch.int32), expected.view(torch.int32))
