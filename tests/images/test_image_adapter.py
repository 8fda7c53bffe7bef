"""Images on the patch grid."""

import pytest
import torch
from rawdiff_images.adapter import ImageAdapter

from rawdiff.errors import UserError


@pytest.mark.parametrize(
    ("patch_size", "pad", "shape"),
    [(4, False, (3, 8, 12)), ([2, 3], False, (1, 8, 12)), (5, True, (3, 8, 12))],
)
def test_unpatchify_undoes_patchify(patch_size, pad, shape) -> None:
    adapter = ImageAdapter(patch_size=patch_size, pad=pad)
    x = torch.randn(2, *shape)
    patches = adapter.patchify(x)
    counts = [len(axis.positions) for axis in adapter.axes(shape, {})]
    assert patches.shape[1] == counts[0] * counts[1]
    assert torch.equal(adapter.unpatchify(patches, shape), x)


def test_rows_come_before_columns() -> None:
    adapter = ImageAdapter(patch_size=[2, 4])
    rows, columns = adapter.axes((3, 8, 8), {})
    assert (rows.name, len(rows.positions)) == ("row", 4)
    assert (columns.name, len(columns.positions)) == ("column", 2)


def test_an_image_that_cannot_be_cut_is_explained() -> None:
    with pytest.raises(UserError, match=r"30 values along `column`.*pad: true"):
        ImageAdapter(patch_size=16).axes((3, 32, 30), {})
