"""Images on the patch grid: two axes, rows from top to bottom and columns from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator
from torch import Tensor

from rawdiff import grid
from rawdiff.adapter import Adapter, PatchLength
from rawdiff.grid import Axis

NAMES = ("row", "column")


def _square(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


RowsColumns = Annotated[
    tuple[PatchLength, PatchLength],
    BeforeValidator(_square, json_schema_input_type=int | tuple[int, int]),
]
"""[rows, columns] in pixels; a recipe may write one number for a square."""


class ImageAdapter(Adapter):
    """Images [C, H, W] in patches of pixels."""

    patch_size: RowsColumns
    """Rows and columns of a patch; one number for both. [pixels]"""
    pad: bool = False
    """Fills the last patches with missing values where the size is not a multiple."""

    def axes(
        self, shape: Sequence[int], coordinates: Mapping[str, Sequence[float]]
    ) -> tuple[Axis, ...]:
        return grid.regular_axes(NAMES, shape[1:], self.patch_size, pad=self.pad)

    def patchify(self, x: Tensor) -> Tensor:
        return grid.patchify(x, self.patch_size)

    def unpatchify(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        return grid.unpatchify(patches, shape[1:], self.patch_size)
