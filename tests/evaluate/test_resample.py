"""Samples at another size: what is constant, straight, or missing stays so."""

import math

import pytest
import torch
from torch.nn import functional as F

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.resample import at_size, resample

SIZES = [
    ((8,), (4,)),
    ((1,), (3,)),
    ((8, 6), (16, 9)),
    ((6, 8, 4), (3, 5, 8)),
    ((4, 4, 4, 6), (2, 8, 4, 3)),
]


def info_of(*sizes, value_range=None):
    names = {"x": tuple(map(float, range(sizes[0])))}
    return DataInfo((2, *sizes), ("a", "b"), coordinates=names, value_range=value_range)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_a_constant_stays_the_constant_in_any_number_of_dims(before, after) -> None:
    target = at_size(info_of(*before), after)
    assert target.shape == (2, *after)
    assert not target.coordinates
    x = torch.tensor([3.0, -270.0]).view(1, 2, *(1,) * len(before)).expand(5, 2, *before)
    assert torch.allclose(resample(x, target), x.reshape(5, 2, -1)[..., :1].reshape(
        5, 2, *(1,) * len(after)
    ).expand(5, 2, *after))  # fmt: skip


def test_in_two_dims_it_is_the_filter_of_image_libraries() -> None:
    x = torch.randn(3, 2, 12, 10, generator=torch.Generator().manual_seed(0))
    for size in ((6, 5), (24, 20), (5, 20)):
        expected = F.interpolate(x, size=size, mode="bicubic", antialias=True)
        found = resample(x, at_size(info_of(12, 10), size))
        assert torch.allclose(found, expected, atol=1e-5)


def test_what_is_too_fine_for_the_smaller_size_vanishes_instead_of_aliasing() -> None:
    x = torch.tensor([1.0, -1.0]).repeat(32).expand(1, 2, 64)
    found = resample(x, at_size(info_of(64), 16))
    assert found[..., 2:-2].abs().max() < 0.1
    slow = torch.sin(torch.arange(64) * 2 * math.pi / 64).expand(1, 2, 64)
    assert resample(slow, at_size(info_of(64), 16)).abs().max() > 0.9


def test_missing_values_stay_missing_and_do_not_leak() -> None:
    x = torch.full((1, 2, 8, 8), 5.0)
    x[:, :, :, 4:] = torch.nan
    for size in (4, 16):
        found = resample(x, at_size(info_of(8, 8), size))
        half = size // 2
        assert found[..., half:].isnan().all()
        assert torch.allclose(found[..., :half], torch.tensor(5.0))


def test_values_stay_among_those_that_data_can_hold() -> None:
    x = torch.zeros(1, 2, 8)
    x[..., 4:] = 255
    found = resample(x, at_size(info_of(8, value_range=(0, 255)), 32))
    assert found.min() == 0
    assert found.max() == 255
    assert resample(x, at_size(info_of(8), 32)).max() > 255  # the filter swings over an edge


def test_its_own_size_leaves_everything_as_it_is() -> None:
    info = info_of(8, 6)
    assert at_size(info, None) is info
    assert at_size(info, (8, 6)) is info
    x = torch.randn(2, 2, 8, 6)
    assert resample(x, info) is x


def test_a_size_of_another_number_of_dims_is_refused() -> None:
    with pytest.raises(UserError, match=r"\[8, 8, 8\] has 3 numbers, but samples have 2 dims"):
        at_size(info_of(8, 6), (8, 8, 8))
