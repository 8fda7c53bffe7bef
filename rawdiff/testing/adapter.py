"""What an adapter promises."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.grid import PatchGrid, wrong_axes
from rawdiff.testing.promise import Promise, Verdict, judge, require_kept


@dataclass(frozen=True)
class Case:
    """An adapter, and the samples that it is to cut: their shape (C, S1, S2, …) and coordinates."""

    adapter: Adapter
    shape: tuple[int, ...]
    coordinates: Mapping[str, Sequence[float]]

    def numbers(self, batch: int, more_channels: int = 0) -> Tensor:
        """A batch in which every value is another."""
        shape = (self.shape[0] + more_channels, *self.shape[1:])
        count = batch * torch.Size(shape).numel()
        return torch.arange(1, count + 1, dtype=torch.float64).view(batch, *shape)


def check_adapter(
    adapter: Adapter,
    sample_shape: Sequence[int],
    coordinates: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Raise BrokenPromiseError unless the adapter works for samples of shape (C, S1, S2, …).

    `coordinates` are those of the dataset's `info`.
    """
    shape = tuple(sample_shape)
    verdicts = judge_adapter(adapter, shape, coordinates)
    require_kept(verdicts, f"{type(adapter).__name__} with samples of shape {shape}")


def judge_adapter(
    adapter: Adapter,
    sample_shape: Sequence[int],
    coordinates: Mapping[str, Sequence[float]] | None = None,
) -> list[Verdict]:
    """A verdict for each promise."""
    return judge(PROMISES, Case(adapter, tuple(sample_shape), coordinates or {}))


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal to the bit, with NaN in the same places."""
    return a.shape == b.shape and torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))


def _axes(case: Case) -> Iterator[str]:
    axes = case.adapter.axes(case.shape, case.coordinates)
    if wrong := [*wrong_axes(axes)]:
        yield from wrong
        return
    num_patches = case.adapter.patchify(case.numbers(1)).shape[1]
    if (grid := PatchGrid(axes)).num_patches != num_patches:
        yield (
            f"{' x '.join(map(str, grid.shape))} = {grid.num_patches} positions, but "
            f"patchify makes {num_patches} patches; give each patch one position"
        )


def _patches(case: Case) -> Iterator[str]:
    x = case.numbers(2).float()
    patches = case.adapter.patchify(x)
    if patches.dim() != 3 or len(patches) != 2:
        yield f"`patchify` must return [B, N, P], returned {list(patches.shape)} for B = 2"
    if patches.dtype != x.dtype:
        yield f"`patchify` must keep the dtype, made {patches.dtype} of {x.dtype}"
    values = patches[~patches.isnan()].sort().values
    if not torch.equal(values, x.flatten()):
        yield (
            "each value of the sample must lie in exactly one patch (the rest is NaN); "
            f"found {len(values)} values for {x.numel()}"
        )


def _inverse(case: Case) -> Iterator[str]:
    x = case.numbers(2)
    x.view(2, -1)[:, ::7] = torch.nan
    back = case.adapter.unpatchify(case.adapter.patchify(x), case.shape)
    if back.shape != x.shape:
        yield f"`unpatchify` must return {list(x.shape)}, returned {list(back.shape)}"
    elif not _same(back, x):
        share = float((back.nan_to_num(-1) != x.nan_to_num(-1)).float().mean())
        yield (
            f"unpatchify(patchify(x)) must be x to the bit, NaN included; {share:.0%} of the "
            "values differ: use the same order of dims in both"
        )


def _apart(case: Case) -> Iterator[str]:
    x = case.numbers(3)
    alone = torch.cat([case.adapter.patchify(sample[None]) for sample in x])
    if not _same(case.adapter.patchify(x), alone):
        yield "a sample's patches must not depend on the others in its batch"


def _channels(case: Case) -> Iterator[str]:
    usual, x = case.adapter.patchify(case.numbers(1)), case.numbers(1, more_channels=1)
    more, channels = case.adapter.patchify(x), x.shape[1]
    if more.shape[1] != usual.shape[1]:
        yield (
            f"{more.shape[1]} patches for {channels} channels but {usual.shape[1]} for "
            f"{case.shape[0]}; context is cut by the adapter too, so the number of patches must "
            "not depend on the channels"
        )
    elif more.shape[2] * case.shape[0] != usual.shape[2] * channels:
        yield (
            f"{more.shape[2]} values in a patch of {channels} channels but {usual.shape[2]} of "
            f"{case.shape[0]}; each channel must bring as many"
        )
    elif not _same(case.adapter.unpatchify(more, x.shape[1:]), x):
        yield f"unpatchify(patchify(x)) must be x for {channels} channels, too: use `shape[0]`"


def _pure(case: Case) -> Iterator[str]:
    x = case.numbers(2)
    before = x.clone()
    first, second = case.adapter.patchify(x), case.adapter.patchify(x)
    case.adapter.unpatchify(first, case.shape)
    if not torch.equal(x, before):
        yield "`patchify` must not change its input"
    if not _same(first, second):
        yield "`patchify` must give the same patches each time; randomness belongs to the dataset"


def _layout(case: Case) -> Iterator[str]:
    """A transposed array, and a weight that was expanded to all channels, lie in memory so."""
    x = case.numbers(2)
    dims = tuple(reversed(range(x.dim())))
    for strange in (x.permute(dims).contiguous().permute(dims), x[:1, :1].expand(x.shape)):
        try:
            same = _same(case.adapter.patchify(strange), case.adapter.patchify(strange + 0))
        except RuntimeError as error:
            yield f"`patchify` must take any strides, too: use reshape instead of view ({error})"
            return
        if not same:
            yield "`patchify` must give the same patches however its input lies in memory"


def _derivable(case: Case) -> Iterator[str]:
    patches = case.adapter.patchify(case.numbers(1)).nan_to_num(0.0).requires_grad_()
    back = case.adapter.unpatchify(patches, case.shape)
    if not back.requires_grad:
        yield (
            "torch must be able to derive `unpatchify`, so that samples can be led to an "
            "observation: no detach, no NumPy inside"
        )


def _copies(case: Case) -> Iterator[str]:
    if pickle.loads(pickle.dumps(case.adapter)) != case.adapter:
        yield "a pickled adapter must come back equal, for worker processes"
    if type(case.adapter)(**case.adapter.model_dump(mode="json")) != case.adapter:
        yield "the adapter must be made again from its own keys, for the run folder"


def _device(case: Case) -> Iterator[str]:
    with torch.device("meta"):
        patches = case.adapter.patchify(torch.zeros(1, *case.shape))
        if case.adapter.unpatchify(patches, case.shape).device.type != "meta":
            yield "results must lie on the device of the input; make no tensor elsewhere"


PROMISES: tuple[Promise[Case], ...] = (
    Promise("axes", "each patch has a position of its own", _axes),
    Promise("patches", "[B, N, P] with each value once", _patches),
    Promise("inverse", "unpatchify undoes patchify to the bit", _inverse),
    Promise("apart", "a sample's patches are its own affair", _apart),
    Promise("channels", "any number of channels", _channels),
    Promise("pure", "the same patches each time, input untouched", _pure),
    Promise("layout", "however the input lies in memory", _layout),
    Promise("derivable", "torch can derive unpatchify", _derivable),
    Promise("copies", "comes back from a pickle and from its keys", _copies),
    Promise("device", "works on the device of its input", _device),
)
