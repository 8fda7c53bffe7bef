"""Samples at another size than they were made at, for scores at another resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError

MIN_KNOWN = 0.5  # of the filter's weight, for a value not to be missing


def at_size(info: DataInfo, size: int | Sequence[int] | None) -> DataInfo:
    """What samples are after `resample`; the info itself if they stay as they are.

    `size` is one number for all dims after the channels, or one for each. Their coordinates do
    not hold any more. UserError if the number of dims is another.
    """
    num_dims = len(info.shape) - 1
    sizes = info.shape[1:] if size is None else size
    sizes = (sizes,) * num_dims if isinstance(sizes, int) else tuple(sizes)
    if len(sizes) != num_dims:
        raise UserError(
            f"`evaluate.size` {list(sizes)} has {len(sizes)} numbers, but samples have {num_dims} "
            f"dims after the channels: {list(info.shape[1:])}. Give one number for each."
        )
    if sizes == info.shape[1:]:
        return info
    return replace(info, shape=(info.shape[0], *sizes), coordinates={})


def resample(x: Tensor, target: DataInfo) -> Tensor:
    """x [n, C, …] at the size of `target`, float32; itself if that is its size.

    Bicubic along one dim after the other, whatever their number, and smoothed first where the
    size shrinks, so that nothing aliases. Values are clipped to those that the data can hold.
    Missing values weigh nothing; a value is missing (NaN) where less than half of the filter's
    weight lies on known ones. (The filter of Keys 1981 with a = -1/2, as in image libraries)
    """
    sizes = target.shape[1:]
    if tuple(x.shape[2:]) == tuple(sizes):
        return x
    x = x.float()
    known = ~x.isnan()
    if bool(known.all()):
        result = _along_all(x, sizes)
    else:
        weight = _along_all(known.float(), sizes)
        result = _along_all(x.nan_to_num(0.0), sizes) / weight
        result = torch.where(weight >= MIN_KNOWN, result, torch.nan)
    return result if target.value_range is None else result.clamp(*target.value_range)


def _along_all(x: Tensor, sizes: Sequence[int]) -> Tensor:
    for dim, size in enumerate(sizes, start=2):
        x = _along(x, dim, size)
    return x


def _along(x: Tensor, dim: int, size: int) -> Tensor:
    """One dim resampled, as a product with the filter's weights."""
    if x.shape[dim] == size:
        return x
    return (x.movedim(dim, -1) @ filter_weights(x.shape[dim], size).to(x).T).movedim(-1, dim)


def filter_weights(length: int, size: int) -> Tensor:
    """How much each of `length` values counts in each of `size`: [size, length], rows sum to 1."""
    unit = torch.eye(length)[None, None]
    return F.interpolate(unit, size=(size, length), mode="bicubic", antialias=True)[0, 0]
