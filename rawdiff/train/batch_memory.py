"""Memory of the samples themselves in a step: raw, as patches, with noise, and in the loss."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rawdiff.data.dataset import Batch, DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.flow import loss as flow_loss
from rawdiff.flow.precondition import precondition
from rawdiff.flow.settings import FlowSettings
from rawdiff.recipe import Recipe


def measure_batch(recipe: Recipe, info: DataInfo, patcher: Patcher) -> int:
    """Most bytes of a sample while its loss is computed, when the network keeps its activations.

    The network's output counts here. Counted without memory, of samples as they are learned; what
    makes noise is gone by then.
    """
    one, two = (_most_bytes(recipe, info, patcher, num) for num in (1, 2))
    return two - one


def _most_bytes(recipe: Recipe, info: DataInfo, patcher: Patcher, num_samples: int) -> int:
    flow = recipe.flow.resolved(info.shape)
    with FakeTensorMode(allow_non_fake_inputs=True), _Alive() as alive:
        batch = _raw(info, num_samples)
        patches = patcher.patches(batch)
        eps = flow_loss.draw_noise(patches.x, flow, 0, batch.index)
        noised = flow_loss.interpolate(patches.x, eps, torch.zeros(num_samples))
        output = torch.zeros_like(patches.x, requires_grad=True)
        alive.begin_again()
        torch.autograd.backward(_loss(output, noised, patches.weight, flow))
    return alive.most_bytes


def _loss(
    output: Tensor, noised: flow_loss.Noised, weight: Tensor | None, flow: FlowSettings
) -> Tensor:
    """As `Objective.errors` has it; all else that it makes is gone when it returns."""
    prediction = precondition(output, noised.z_t, noised.t, flow)
    errors = flow_loss.squared_error(prediction, noised, flow)
    return (errors if weight is None else errors * weight).sum()


def _raw(info: DataInfo, num_samples: int) -> Batch:
    is_8_bit = info.value_range == (0, 255)
    num_context = info.num_context_channels
    return Batch(
        x=torch.zeros(num_samples, *info.shape, dtype=torch.uint8 if is_8_bit else torch.float32),
        index=torch.zeros(num_samples, dtype=torch.int64),
        context=torch.zeros(num_samples, num_context, *info.shape[1:]) if num_context else None,
    )


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all tensors that were made inside and are not gone yet; the most at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most_bytes = self._bytes = 0
        self._seen: set[int] = set()

    def begin_again(self) -> None:
        self.most_bytes = self._bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._bytes += storage.nbytes()
            self.most_bytes = max(self.most_bytes, self._bytes)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, num_bytes: int) -> None:
        self._seen.discard(key)
        self._bytes -= num_bytes
