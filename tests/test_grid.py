"""Cutting into patches and back, and where patches lie."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rawdiff.adapter import GridAdapter
from rawdiff.errors import UserError
from rawdiff.grid import Axis, PatchGrid, patchify, regular_axes, unpatchify
from rawdiff.testing import check_adapter

sizes_and_patches = st.lists(
    st.tuples(st.integers(1, 7), st.integers(1, 4)), min_size=1, max_size=4
)


@given(dims=sizes_and_patches, channels=st.integers(1, 3))
def test_unpatchify_undoes_patchify_for_any_size(dims, channels) -> None:
    sizes, patch = zip(*dims, strict=True)
    x = torch.randn(2, channels, *sizes)
    patches = patchify(x, patch)
    assert patches.shape[1] == math.prod(-(-s // p) for s, p in dims)
    assert torch.equal(unpatchify(patches, sizes, patch), x)


def test_patches_run_row_by_row_with_the_channel_fastest() -> None:
    x = torch.arange(2 * 4 * 6).view(1, 2, 4, 6)
    patches = patchify(x, (2, 3))
    assert patches.shape == (1, 4, 12)
    expected = x[0, :, 0:2, 3:6].permute(1, 2, 0).flatten()
    assert torch.equal(patches[0, 1], expected)


def test_padding_is_missing_and_comes_at_the_end() -> None:
    patches = patchify(torch.ones(1, 1, 5), (2,))
    assert patches[0, :2].isfinite().all()
    assert patches[0, 2].isnan().tolist() == [False, True]


def test_positions_follow_the_order_of_the_patches() -> None:
    grid = PatchGrid((Axis("level", (0.0, 0.4, 2.0)), Axis.regular("longitude", 4, periodic=True)))
    assert grid.positions()[5].tolist() == pytest.approx([0.4, 1.0])
    assert grid.periods == (None, 4)


def test_a_size_that_the_patch_does_not_divide_says_how_to_mend_it() -> None:
    with pytest.raises(UserError, match=r"721 values along `latitude`.*nearest is 7.*pad: true"):
        regular_axes(("latitude",), (721,), (8,))
    assert len(regular_axes(("latitude",), (721,), (8,), pad=True)[0].positions) == 91


def test_a_periodic_axis_is_never_padded() -> None:
    with pytest.raises(UserError, match="periodic"):
        regular_axes(("longitude",), (361,), (8,), periodic=("longitude",), pad=True)


@pytest.mark.parametrize(
    ("adapter", "shape"),
    [
        (GridAdapter(patch_size=(4,)), (1, 32)),
        (GridAdapter(patch_size=(2, 3), periodic=("axis1",)), (3, 8, 9)),
        (GridAdapter(patch_size=(2, 2, 4), pad=True), (2, 5, 3, 7)),
        (GridAdapter(patch_size=(1, 2, 2, 2)), (1, 3, 4, 4, 4)),
        (GridAdapter(patch_size=(2,), positions={"axis0": (0.0, 0.5, 7.0)}), (1, 6)),
    ],
)
def test_the_grid_adapter_keeps_its_promises(adapter, shape) -> None:
    check_adapter(adapter, shape)
