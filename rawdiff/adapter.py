"""The contract of an adapter, and the generic one for plain arrays.

An adapter says how a raw sample [C, …] is cut into patches and where each patch lies: axes,
patchify, unpatchify, and nothing else. Its fields are the keys that a recipe may write under
`adapter:`. It reads sizes from the data that it is given, so no size is written twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator
from torch import Tensor

from rawdiff import grid
from rawdiff.errors import UserError
from rawdiff.grid import Axis
from rawdiff.settings import Settings

PatchLength = Annotated[int, Field(ge=1)]


class Adapter(Settings, ABC):
    """What makes a new modality. Subclasses are final and hold settings, no state."""

    @abstractmethod
    def axes(
        self, shape: Sequence[int], coordinates: Mapping[str, Sequence[float]]
    ) -> tuple[Axis, ...]:
        """Axes of the patch grid of a sample of `shape` (C, S1, S2, …).

        `coordinates` are the dataset's, by dim name, in its own units; may be empty.
        Raises UserError if such a sample cannot be cut.
        """

    @abstractmethod
    def patchify(self, x: Tensor) -> Tensor:
        """Raw [B, C, …] to patches [B, N, P], for any C: context is cut by it too."""

    @abstractmethod
    def unpatchify(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        """Patches [B, N, P] to raw [B, *shape], for any C; exactly undoes `patchify`."""

    def sample_positions(self, place: Tensor, names: Sequence[str]) -> Tensor | None:
        """Where the patches of each sample lie: [B, N, number of axes], in patches and finite.

        `place` [B, A, …] and the `names` of its rows are the dataset's, for samples that differ in
        this. None (as here): all samples lie where `axes` says.
        """
        return None


class GridAdapter(Adapter):
    """Arrays with any number of dims, with no code: `adapter: {name: grid, patch_size: [4, 4]}`."""

    patch_size: tuple[PatchLength, ...] = Field(min_length=1)
    """Length of a patch along each dim after the channels. [grid points]"""
    axis_names: tuple[str, ...] = ()
    """Names of these dims (default: axis0, axis1, …)."""
    periodic: tuple[str, ...] = ()
    """Those of them that close on themselves, such as an angle."""
    positions: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """By the name of an axis: where its patches lie, if not evenly. [patches]"""
    pad: bool = False
    """Fills the last patches with missing values where the size is not a multiple."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.axis_names or tuple(f"axis{i}" for i in range(len(self.patch_size)))

    @model_validator(mode="after")
    def _names_agree(self) -> GridAdapter:
        if len(self.names) != len(self.patch_size) or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"axis_names {list(self.names)} must give one name of its own to each of the "
                f"{len(self.patch_size)} numbers of patch_size"
            )
        if unknown := ({*self.periodic} | {*self.positions}) - {*self.names}:
            raise ValueError(f"{sorted(unknown)} not among the axes {list(self.names)}")
        return self

    def axes(
        self, shape: Sequence[int], coordinates: Mapping[str, Sequence[float]]
    ) -> tuple[Axis, ...]:
        axes = grid.regular_axes(
            self.names, shape[1:], self.patch_size, periodic=self.periodic, pad=self.pad
        )
        return tuple(self._placed(axis) for axis in axes)

    def _placed(self, axis: Axis) -> Axis:
        positions = self.positions.get(axis.name, axis.positions)
        if len(positions) != len(axis.positions):
            raise UserError(
                f"`adapter.positions.{axis.name}` has {len(positions)} values, but there are "
                f"{len(axis.positions)} patches along it."
            )
        return Axis(axis.name, positions, axis.period)

    def patchify(self, x: Tensor) -> Tensor:
        return grid.patchify(x, self.patch_size)

    def unpatchify(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        return grid.unpatchify(patches, shape[1:], self.patch_size)
