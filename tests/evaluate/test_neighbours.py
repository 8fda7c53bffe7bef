"""Copies of training samples are found, and nothing else is taken for one."""

import pytest
import torch
from bases import noise, setting_of

from rawdiff.errors import UserError
from rawdiff.evaluate import neighbours
from rawdiff.evaluate.neighbours import Neighbours, two_nearest


def test_copied_training_samples_are_counted() -> None:
    reference = 5 * noise(200, 2, 6, 6) - 1
    samples = 5 * noise(40, 2, 6, 6, seed=1) - 1
    samples[:10] = reference[50:60] + 0.01 * noise(10, 2, 6, 6, seed=2)
    scores = Neighbours().score(samples, reference, setting_of(reference))
    assert scores["copies"] == 0.25
    assert Neighbours().score(samples[10:], reference, setting_of(reference))["copies"] == 0


def test_exact_copies_are_at_distance_zero() -> None:
    reference = 100 + noise(30, 3, 8)
    scores = Neighbours().score(reference.clone(), reference, setting_of(reference))
    assert scores == {"": 0.0, "copies": 1.0}


def test_distances_are_root_mean_squares_in_standard_deviations() -> None:
    reference = noise(2, 1, 50)
    setting = setting_of(reference)
    score = Neighbours().score(reference[:1] + 0.1 * setting.std, reference, setting)
    assert score[""] == pytest.approx(0.1, rel=1e-4)


def test_chunks_give_the_distances_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, reference = noise(23, 7), noise(40, 7, seed=1)
    monkeypatch.setattr(neighbours, "VALUES_AT_ONCE", 200)
    expected = torch.cdist(x, reference).topk(2, largest=False).values / 7**0.5
    torch.testing.assert_close(two_nearest(x, reference), expected)


def test_a_single_training_sample_has_no_second() -> None:
    x = noise(3, 1, 4)
    with pytest.raises(UserError, match="has 1"):
        Neighbours().score(x, x[:1], setting_of(x))
