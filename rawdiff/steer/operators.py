"""Operators on grids: values that are seen, means over blocks, matrices, functions in Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from einops import rearrange
from pydantic import BeforeValidator, Field
from torch import Tensor

from rawdiff.data.array_files import Stored, open_array
from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid
from rawdiff.steer.memory import require_memory
from rawdiff.steer.operator import Measure, Operator

Factor = Annotated[int, Field(ge=1)]


class Mask(Operator):
    """Values of the sample itself, NaN where they are not seen: inpainting."""

    keeps_channels: ClassVar[bool] = True
    keeps_values: ClassVar[bool] = True

    def measure(self, info: DataInfo, grid: PatchGrid) -> Measure:
        return lambda x: x


class Coarsen(Operator):
    """Means over blocks of values. Values that are missing do not count."""

    keeps_channels: ClassVar[bool] = True

    factor: Annotated[
        tuple[Factor, ...],
        BeforeValidator(
            lambda value: (value,) if isinstance(value, int) else value,
            json_schema_input_type=int | tuple[int, ...],
        ),
    ] = Field(min_length=1)
    """Length of a block along each dim after the channels; one number: the same along all. [grid
    points]"""

    def measure(self, info: DataInfo, grid: PatchGrid) -> Measure:
        factors = _for_each_dim(self.factor, info.shape[1:])
        dims = range(len(factors))
        pattern = (
            f"b c {' '.join(f'(n{i} p{i})' for i in dims)} -> "
            f"b c {' '.join(f'n{i}' for i in dims)} ({' '.join(f'p{i}' for i in dims)})"
        )
        lengths = {f"p{i}": p for i, p in enumerate(factors)}

        def means(x: Tensor) -> Tensor:
            blocks = rearrange(x, pattern, **lengths)
            known = ~blocks.isnan()
            return torch.where(known, blocks, 0.0).sum(-1) / known.sum(-1)  # NaN where none is

        return means


def _for_each_dim(factor: Sequence[int], sizes: Sequence[int]) -> Sequence[int]:
    factors = tuple(factor) * len(sizes) if len(factor) == 1 else factor
    if len(factors) != len(sizes):
        raise UserError(
            f"`operator.factor` has {len(factors)} numbers, but samples have {len(sizes)} dims "
            f"after the channels, of sizes {list(sizes)}. Give one for each."
        )
    for size, p in zip(sizes, factors, strict=True):
        if size % p:
            near = min((d for d in range(1, size + 1) if size % d == 0), key=lambda d: abs(d - p))
            raise UserError(
                f"{size} values cannot be cut into blocks of {p}; the nearest `operator.factor` "
                f"that divides them is {near}."
            )
    return factors


class Linear(Operator):
    """A matrix [M, values of a sample], times the sample as one long row.

    The row runs through channels first, the last dim fastest.
    """

    matrix: Path
    """File of the matrix: .npy, .npz, .zarr or .h5."""
    key: str | None = None
    """Name of the matrix in its file (default: the only one, or `matrix`)."""

    def measure(self, info: DataInfo, grid: PatchGrid) -> Measure:
        shape, num_values = self._stored.shape, math.prod(info.shape)
        if len(shape) != 2 or shape[1] != num_values:
            raise UserError(
                f"The matrix in {self.matrix} has the shape {list(shape)}, but a sample "
                f"{list(info.shape)} is a row of {num_values} values: it must be [M, {num_values}]."
            )
        return lambda x: x.flatten(1) @ self._on(x.device).T

    @cached_property
    def _stored(self) -> Stored:
        return open_array(self.matrix, self.key, default="matrix", setting="key")

    @cached_property
    def _matrix(self) -> Tensor:
        """[M, values of a sample]; read once, for A is asked at every step of every batch."""
        require_memory(math.prod(self._stored.shape), f"The matrix in {self.matrix}")
        return torch.from_numpy(self._stored[...].astype("float32"))

    @cached_property
    def _moved(self) -> dict[torch.device, Tensor]:
        return {}

    def _on(self, device: torch.device) -> Tensor:
        if device not in self._moved:
            self._moved[device] = self._matrix.to(device)
        return self._moved[device]


class Function(Operator):
    """Any differentiable function of samples [B, C, …] to [B, …]; for `model.sample` in Python."""

    function: Callable[[Tensor], Tensor]

    def measure(self, info: DataInfo, grid: PatchGrid) -> Measure:
        return self.function
