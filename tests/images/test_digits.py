"""The data set that needs no download."""

import sys

import numpy as np
import pytest
from rawdiff_images.digits import Digits

from rawdiff.errors import UserError


def test_digits_are_what_info_says() -> None:
    digits = Digits()
    assert len(digits) == 1797
    samples = digits.get_batch(range(len(digits)))
    x = np.stack([sample.x for sample in samples])
    assert x.shape[1:] == digits.info.shape
    assert (x.min(), x.max()) == digits.info.value_range
    counts = np.bincount([sample.label for sample in samples])
    assert len(counts) == digits.info.num_classes == 10
    assert counts.min() > 170


def test_a_zero_is_hollow_and_a_one_is_not() -> None:
    digits = Digits()
    samples = digits.get_batch(range(500))
    middle = {
        label: np.mean([s.x[0, 3:5, 3:5].mean() for s in samples if s.label == label])
        for label in (0, 1)
    }
    assert middle[0] < 3 < 12 < middle[1]


def test_a_missing_scikit_learn_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"pip install rawdiff\[demo\]"):
        len(Digits())
