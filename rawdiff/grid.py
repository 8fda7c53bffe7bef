"""The patch grid: named axes with the real position of each patch, and cutting arrays into patches.

An axis knows where its patches lie, in units of patches; it may be irregular (pressure levels) or
periodic (longitude). Patches of a grid are numbered row by row: the last axis runs fastest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from rawdiff.errors import UserError


@dataclass(frozen=True)
class Axis:
    """A direction of the patch grid.

    `positions` has one value for each patch, in patches. `period`, in patches too, makes the axis
    a circle: positions that differ by a whole period are the same place.
    """

    name: str
    positions: tuple[float, ...]
    period: float | None = None

    def __post_init__(self) -> None:
        if not self.positions:
            raise UserError(f"Axis `{self.name}` has no patches.")
        if not all(math.isfinite(position) for position in self.positions):
            raise UserError(f"Axis `{self.name}` has a position that is not finite.")
        span = max(self.positions) - min(self.positions)
        if self.period is not None and self.period <= span:
            raise UserError(
                f"Axis `{self.name}` has period {self.period}, but its positions span {span}: "
                "first and last patch would be one. Give the period in patches, longer than that."
            )

    @classmethod
    def regular(cls, name: str, num_patches: int, *, periodic: bool = False) -> Axis:
        """Patches at 0, 1, 2, …; a periodic axis closes after the last one."""
        return cls(
            name, tuple(float(i) for i in range(num_patches)), num_patches if periodic else None
        )


@dataclass(frozen=True)
class PatchGrid:
    """All axes of the patches, in the order in which the patches are numbered."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.positions) for axis in self.axes)

    @property
    def num_patches(self) -> int:
        return math.prod(self.shape)

    @property
    def periods(self) -> tuple[float | None, ...]:
        return tuple(axis.period for axis in self.axes)

    def positions(self) -> Tensor:
        """Where each patch lies, in patches: [N, number of axes], float32 on the CPU."""
        columns = [torch.tensor(axis.positions, device="cpu") for axis in self.axes]
        return torch.cartesian_prod(*columns).reshape(self.num_patches, len(self.axes))

    def __str__(self) -> str:
        names = (
            f"{axis.name} {len(axis.positions)}{' (periodic)' if axis.period else ''}"
            for axis in self.axes
        )
        return " × ".join(names)


def wrong_axes(axes: object) -> Iterator[str]:
    """Why what an adapter gives as axes cannot be those of a patch grid."""
    if not isinstance(axes, tuple) or not all(isinstance(axis, Axis) for axis in axes):
        yield f"`axes` must return a tuple of Axis, returned {axes!r:.80}"
        return
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        yield f"names of axes must differ, found {names}"
    for axis in axes:
        if len(set(axis.positions)) < len(axis.positions):
            yield (
                f"two patches lie at one place of axis `{axis.name}`, so that the network cannot "
                "tell them apart; give each a position of its own"
            )


def num_patches_along(
    sizes: Sequence[int], patch_size: Sequence[int], *, names: Sequence[str], pad: bool
) -> tuple[int, ...]:
    """How many patches cover each dim. UserError where a size is not a multiple, unless `pad`."""
    if len(sizes) != len(patch_size):
        raise UserError(
            f"The patch size {list(patch_size)} has {len(patch_size)} numbers, but a sample has "
            f"{len(sizes)} dims after the channels, of sizes {list(sizes)}. Give one for each."
        )
    for name, size, p in zip(names, sizes, patch_size, strict=True):
        if size % p and not pad:
            near = min((d for d in range(1, size + 1) if size % d == 0), key=lambda d: abs(d - p))
            raise UserError(
                f"{size} values along `{name}` cannot be cut into patches of {p}. Write a patch "
                f"size that divides {size} (the nearest is {near}), or `pad: true` under "
                f"`adapter:` to fill the last patch with {-size % p} missing values."
            )
    return tuple(-(-size // p) for size, p in zip(sizes, patch_size, strict=True))


def regular_axes(
    names: Sequence[str],
    sizes: Sequence[int],
    patch_size: Sequence[int],
    *,
    periodic: Sequence[str] = (),
    pad: bool = False,
) -> tuple[Axis, ...]:
    """Axes with evenly spaced patches.

    A periodic axis must be divided by its patch: padding would tear the circle open.
    """
    counts = num_patches_along(sizes, patch_size, names=names, pad=pad)
    for name, size, p in zip(names, sizes, patch_size, strict=True):
        if name in periodic and size % p:
            raise UserError(
                f"Axis `{name}` is periodic, so its {size} values cannot be padded to patches of "
                f"{p}: first and last patch would no longer be neighbours. Choose a divisor."
            )
    return tuple(
        Axis.regular(name, count, periodic=name in periodic)
        for name, count in zip(names, counts, strict=True)
    )


def _patterns(num_dims: int) -> tuple[str, str]:
    """For two dims: `b c (n0 p0) (n1 p1)` and `b (n0 n1) (p0 p1 c)`."""
    dims = range(num_dims)
    raw = "b c " + " ".join(f"(n{i} p{i})" for i in dims)
    patches = f"b ({' '.join(f'n{i}' for i in dims)}) ({' '.join(f'p{i}' for i in dims)} c)"
    return raw, patches


def patchify(x: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Cut x [B, C, S1, S2, …] into patches [B, N, P], P = p1 p2 … C with the channel fastest.

    Sizes that the patch does not divide are filled up with missing values (NaN) at the end.
    """
    padding = [-size % p for size, p in zip(x.shape[2:], patch_size, strict=True)]
    if any(padding):
        x = F.pad(x, [n for pad in reversed(padding) for n in (0, pad)], value=math.nan)
    raw, patches = _patterns(len(patch_size))
    return rearrange(x, f"{raw} -> {patches}", **{f"p{i}": p for i, p in enumerate(patch_size)})


def unpatchify(patches: Tensor, sizes: Sequence[int], patch_size: Sequence[int]) -> Tensor:
    """Inverse of `patchify`: [B, N, P] back to [B, C, S1, S2, …]; padding is cut off."""
    counts = [-(-size // p) for size, p in zip(sizes, patch_size, strict=True)]
    raw, pattern = _patterns(len(patch_size))
    lengths = {f"p{i}": p for i, p in enumerate(patch_size)}
    lengths |= {f"n{i}": n for i, n in enumerate(counts)}
    x = rearrange(patches, f"{pattern} -> {raw}", **lengths)
    for dim, size in enumerate(sizes, start=2):
        x = x.narrow(dim, 0, size)
    return x
