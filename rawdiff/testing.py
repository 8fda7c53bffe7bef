"""Does an adapter keep its promises? For the tests of those who write one."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.grid import Axis, PatchGrid


class BrokenPromiseError(AssertionError):
    """Lists every promise of an adapter that does not hold, and how to mend it."""


def check_adapter(
    adapter: Adapter,
    sample_shape: Sequence[int],
    coordinates: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Raise BrokenPromiseError unless the adapter works for samples of shape (C, S1, S2, …)."""
    shape = tuple(sample_shape)
    broken: list[str] = []
    for promise in (_axes, _shapes, _inverse, _samples_apart, _any_channels, _pure, _portable):
        try:
            broken += list(promise(adapter, shape, coordinates or {}))
        except Exception as error:
            name = promise.__name__.strip("_")
            broken.append(f"{name}: raised {type(error).__name__}: {error}")
    if broken:
        lines = "\n".join(f"  - {line}" for line in broken)
        raise BrokenPromiseError(
            f"{type(adapter).__name__} with samples of shape {shape}:\n{lines}"
        )


Promise = Callable[[Adapter, tuple[int, ...], Mapping[str, Sequence[float]]], Iterator[str]]


def _numbers(batch: int, shape: tuple[int, ...]) -> Tensor:
    """A batch in which every value is another."""
    count = batch * torch.Size(shape).numel()
    return torch.arange(1, count + 1, dtype=torch.float64).view(batch, *shape)


def _axes(
    adapter: Adapter, shape: tuple[int, ...], coordinates: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    axes = adapter.axes(shape, coordinates)
    if not isinstance(axes, tuple) or not all(isinstance(axis, Axis) for axis in axes):
        yield f"axes: must return a tuple of Axis, returned {axes!r:.80}"
        return
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        yield f"axes: names must differ, found {names}"
    num_patches = adapter.patchify(_numbers(1, shape)).shape[1]
    if (grid := PatchGrid(axes)).num_patches != num_patches:
        yield (
            f"axes: {' x '.join(map(str, grid.shape))} = {grid.num_patches} positions, but "
            f"patchify makes {num_patches} patches; give each patch one position"
        )


def _shapes(
    adapter: Adapter, shape: tuple[int, ...], coordinates: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    x = _numbers(2, shape).float()
    patches = adapter.patchify(x)
    if patches.dim() != 3 or len(patches) != 2:
        yield f"patchify: must return [B, N, P], returned {list(patches.shape)} for B = 2"
    if patches.dtype != x.dtype:
        yield f"patchify: must keep the dtype, made {patches.dtype} of {x.dtype}"
    values = patches[~patches.isnan()].sort().values
    if not torch.equal(values, x.flatten()):
        yield (
            "patchify: each value of the sample must lie in exactly one patch (the rest is NaN); "
            f"found {len(values)} values for {x.numel()}"
        )


def _inverse(
    adapter: Adapter, shape: tuple[int, ...], coordinates: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    x = _numbers(2, shape)
    x.view(2, -1)[:, ::7] = torch.nan
    back = adapter.unpatchify(adapter.patchify(x), shape)
    if back.shape != x.shape:
        yield f"unpatchify: must return {list(x.shape)}, returned {list(back.shape)}"
    elif not torch.equal(back.nan_to_num(-1), x.nan_to_num(-1)):
        share = float((back.nan_to_num(-1) != x.nan_to_num(-1)).float().mean())
        yield (
            f"unpatchify(patchify(x)) must be x to the bit, NaN included; {share:.0%} of the "
            "values differ: use the same order of dims in both"
        )


def _samples_apart(
    adapter: Adapter, shape: tuple[int, ...], coordinates: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    x = _numbers(3, shape)
    alone = torch.cat([adapter.patchify(sample[None]) for sample in x])
    if not torch.equal(adapter.patchify(x).nan_to_num(-1), alone.nan_to_num(-1)):
        yield "patchify: a sample's patches must not depend on the others in its batch"


def _any_channels(
    adapter: Adapter, shape: tuple[int, ...], coordinates: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    more = (shape[0] + 1, *shape[1:])
    num_patches = adapter.patchify(_numbers(1, shape)).shape[1]
    if (found := adapter.patchify(_numbers(1, more)).shape[1]) != num_patches:
        yield (
            f"patchify: {found} patches for {more[0]} channels but {num_patches} for {shape[0]}; "
            "context is cut by it too, so the number of patches must not depend on the channels"
        )


def _pure(
    adapter: Adapter, shape: tuple[int, ...], coordinates: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    x = _numbers(2, shape)
    before = x.clone()
    first, second = adapter.patchify(x), adapter.patchify(x)
    adapter.unpatchify(first, shape)
    if not torch.equal(x, before):
        yield "patchify: must not change its input"
    if not torch.equal(first.nan_to_num(-1), second.nan_to_num(-1)):
        yield "patchify: must give the same patches each time; randomness belongs to the dataset"


def _portable(
    adapter: Adapter, shape: tuple[int, ...], coordinates: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    if pickle.loads(pickle.dumps(adapter)) != adapter:
        yield "pickle: the adapter must come back equal, for worker processes"
    if type(adapter)(**adapter.model_dump(mode="json")) != adapter:
        yield "settings: the adapter must be made again from its own keys, for the run folder"
    with torch.device("meta"):
        patches = adapter.patchify(torch.zeros(1, *shape))
        if adapter.unpatchify(patches, shape).device.type != "meta":
            yield "device: results must lie on the device of the input; make no tensor elsewhere"
