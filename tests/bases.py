"""The basis in which evaluators score samples of any shape."""

import torch
from torch import Tensor

from rawdiff.adapter import GridAdapter
from rawdiff.data.dataset import DataInfo
from rawdiff.evaluate.evaluator import Basis

SHAPES = [(2, 8), (1, 8, 8), (3, 4, 8, 8), (2, 2, 4, 4, 6)]
"""Of one sample, with 1 to 4 dims after the channels."""


def setting_of(x: Tensor, *, patch_size: int = 2, periodic: bool = False) -> Basis:
    """For raw x [n, C, …]: its own mean and spread, and patches of one size."""
    names = tuple(f"axis{i}" for i in range(x.dim() - 2))
    adapter = GridAdapter(
        patch_size=(patch_size,) * len(names), axis_names=names, periodic=names if periodic else ()
    )
    channels = x.transpose(0, 1).flatten(1)
    mean = channels.nanmean(1)
    std = (channels - mean[:, None]).square().nanmean(1).sqrt()
    info = DataInfo(tuple(x.shape[1:]), tuple(f"channel{i}" for i in range(x.shape[1])))
    return Basis(info, adapter, mean, std)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
