"""The seam index of samples whose seams are known."""

import pytest
import torch
from bases import SHAPES, noise, setting_of

from rawdiff.data.seams import patch_numbers
from rawdiff.evaluate.seam import Seam


@pytest.mark.parametrize("shape", SHAPES)
def test_white_noise_has_no_seams(shape: tuple[int, ...]) -> None:
    x = noise(2000, *shape)
    assert Seam().score(x, x, setting_of(x))[""] == pytest.approx(1, abs=0.03)


def test_a_plane_has_no_seams() -> None:
    x = (torch.arange(8.0)[:, None] + 3 * torch.arange(12.0)).expand(5, 1, 8, 12)
    assert Seam().score(x, x, setting_of(x, patch_size=4))[""] == pytest.approx(1, rel=1e-5)


def test_an_offset_of_each_patch_is_a_seam() -> None:
    x = 0.1 * noise(100, 2, 8, 8)
    setting = setting_of(x, patch_size=4)
    offsets = noise(100, 4, 1, seed=1).expand(-1, -1, 32)
    with_seams = x + setting.adapter.unpatchify(offsets, (2, 8, 8))
    assert Seam().score(with_seams, x, setting)[""] > 5


def test_patches_lie_where_the_adapter_cuts() -> None:
    adapter = setting_of(noise(1, 1, 4, 6), patch_size=2).adapter
    expected = torch.arange(6.0).view(2, 3).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(patch_numbers(adapter, (4, 6)), expected)


@pytest.mark.parametrize(("size", "patch_size"), [(8, 1), (2, 2)])
def test_no_score_where_all_neighbours_are_of_one_kind(size: int, patch_size: int) -> None:
    x = noise(5, 1, size, size)
    setting = setting_of(x, patch_size=patch_size)
    assert Seam().score(x, x, setting) == {}
    assert "patches hold one value, or all" in Seam().obstacle(setting)
    assert Seam().obstacle(setting_of(noise(1, 1, 8, 2))) is None  # along one dim is enough


def test_missing_and_constant_samples_have_finite_scores() -> None:
    x = noise(50, 1, 8)
    setting = setting_of(x)
    gaps = x.where(noise(50, 1, 8, seed=1) > -1, torch.nan)
    assert Seam().score(gaps, x, setting)[""] == pytest.approx(1, abs=0.3)
    assert Seam().score(torch.ones_like(x), x, setting) == {"": 0.0}
    assert Seam().score(torch.full_like(x, torch.nan), x, setting) == {}
