"""The tensors of a published JiT by name and shape, and ours in their place.

Published names begin with `net.`, which is left out here. The published patch embedding is two
convolutions, with the channel slowest in a patch; ours is two linear layers, channel fastest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.exchange.foreign import Tensors
from rawdiff.model.transformer import TransformerSettings

PREFIX = "net."
TABLE = "pos_embed"
WRAPPERS = {"module", "_orig_mod"}  # put into names by DistributedDataParallel and torch.compile
# A constant in training, but averaged with the weights: in 300,000 steps of an EMA with decay
# 0.9999 float32 rounds it away by 2e-4.
TABLE_ERROR = 1e-3


class Entry(NamedTuple):
    """A published tensor, its name in our network, and its published shape."""

    name: str
    own: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """All sizes of a published network: of square images in square patches."""

    model: TransformerSettings
    patch_size: int
    patches_per_side: int
    num_channels: int
    num_classes: int

    @property
    def image_size(self) -> int:
        return self.patch_size * self.patches_per_side

    @property
    def num_patches(self) -> int:
        return self.patches_per_side**2

    def entries(self) -> list[Entry]:
        """Every learned tensor, in the published order."""
        D, K, p = self.model.width, self.model.in_context_len, self.patch_size
        b, C = self.model.bottleneck or 0, self.num_channels
        return [
            Entry("in_context_posemb", "in_context", (1, K, D)),
            *_linear("t_embedder.mlp.0", "time_embedding.linear1", D, 256),
            *_linear("t_embedder.mlp.2", "time_embedding.linear2", D, D),
            Entry(
                "y_embedder.embedding_table.weight",
                "label_embedding.weight",
                (self.num_classes + 1, D),
            ),
            Entry("x_embedder.proj1.weight", "patch_embedding.down.weight", (b, C, p, p)),
            Entry("x_embedder.proj2.weight", "patch_embedding.up.weight", (D, b, 1, 1)),
            Entry("x_embedder.proj2.bias", "patch_embedding.up.bias", (D,)),
            *(entry for i in range(self.model.depth) for entry in self._block(i)),
            Entry("final_layer.norm_final.weight", "last_layer.norm.weight", (D,)),
            *_linear("final_layer.linear", "last_layer.linear", p * p * C, D),
            *_linear("final_layer.adaLN_modulation.1", "last_layer.modulation.linear", 2 * D, D),
        ]

    def _block(self, i: int) -> Iterator[Entry]:
        D, d, f = self.model.width, self.model.head_width, self.model.mlp_width
        block = f"blocks.{i}"
        yield Entry(f"{block}.norm1.weight", f"{block}.norm1.weight", (D,))
        for norm in ("q_norm", "k_norm"):
            yield Entry(f"{block}.attn.{norm}.weight", f"{block}.attn.{norm}.weight", (d,))
        yield from _linear(f"{block}.attn.qkv", f"{block}.attn.qkv", 3 * D, D)
        yield from _linear(f"{block}.attn.proj", f"{block}.attn.proj", D, D)
        yield Entry(f"{block}.norm2.weight", f"{block}.norm2.weight", (D,))
        yield from _linear(f"{block}.mlp.w12", f"{block}.mlp.w12", 2 * f, D)
        yield from _linear(f"{block}.mlp.w3", f"{block}.mlp.w3", D, f)
        yield from _linear(f"{block}.adaLN_modulation.1", f"{block}.modulation.linear", 6 * D, D)

    def to_own(self, published: Tensors) -> Tensors:
        """Under our names and in our shapes, float32. Call `require` before."""
        return {
            entry.own: _to_own(published[entry.name]).float().contiguous()
            for entry in self.entries()
        }

    def to_published(self, own: Tensors) -> Tensors:
        """The inverse of `to_own`, with the fixed table, under full published names."""
        tensors = {TABLE: position_table(self.patches_per_side, self.model.width)}
        for entry in self.entries():
            tensors[entry.name] = _to_published(own[entry.own], entry.shape).contiguous()
        return {PREFIX + name: tensor for name, tensor in tensors.items()}

    def require(self, published: Mapping[str, Tensor], source: str) -> None:
        """UserError unless exactly these tensors are there, of these shapes, all numbers finite,
        and the position table is the published one."""
        expected = {entry.name: entry.shape for entry in self.entries()}
        expected[TABLE] = (1, self.num_patches, self.model.width)
        wrong = [
            *(f"`{PREFIX}{name}` is missing" for name in expected if name not in published),
            *(f"`{PREFIX}{name}` is unknown" for name in published if name not in expected),
            *(
                f"`{PREFIX}{name}` has shape {list(published[name].shape)} instead of {list(shape)}"
                for name, shape in expected.items()
                if name in published and published[name].shape != shape
            ),
        ]
        if wrong:
            more = f" ({len(wrong)} tensors differ)" if len(wrong) > 1 else ""
            raise UserError(
                f"{source} is no JiT as published: {'; '.join(wrong[:3])}{more}. Only checkpoints "
                "of the published network can be read; a fork's needs a format of its own."
            )
        _require_finite(published, source)
        self._require_table(published[TABLE], source)

    def _require_table(self, found: Tensor, source: str) -> None:
        expected = position_table(self.patches_per_side, self.model.width)
        error = float((found.float() - expected).abs().max())
        if error > max(TABLE_ERROR, torch.finfo(found.dtype).eps):
            raise UserError(
                f"`{PREFIX}{TABLE}` of {source} is not the published sine-cosine table (off by "
                f"{error:.2g}): positions were learned or resized there. Only the published "
                "network, whose table is fixed, can be read."
            )


def _linear(name: str, own: str, num_outputs: int, num_inputs: int) -> tuple[Entry, Entry]:
    return (
        Entry(f"{name}.weight", f"{own}.weight", (num_outputs, num_inputs)),
        Entry(f"{name}.bias", f"{own}.bias", (num_outputs,)),
    )


def _to_own(published: Tensor) -> Tensor:
    if published.dim() == 4:  # a convolution [out, channel, row, column]
        return published.permute(0, 2, 3, 1).flatten(1)
    return published[0] if published.dim() == 3 else published


def _to_published(own: Tensor, shape: Sequence[int]) -> Tensor:
    if len(shape) == 4:
        num_outputs, num_channels, rows, columns = shape
        return own.reshape(num_outputs, rows, columns, num_channels).permute(0, 3, 1, 2)
    return own[None] if len(shape) == 3 else own


def position_table(patches_per_side: int, width: int) -> Tensor:
    """The published table [1, N, D]: D/2 values for the column, then D/2 for the row.

    Computed in float64, then rounded, as there: this makes it equal bit for bit.
    """
    num_waves = width // 4
    frequencies = 1 / 10000 ** (np.arange(num_waves) / num_waves)
    angles = np.arange(patches_per_side)[:, None] * frequencies
    waves = np.concatenate((np.sin(angles), np.cos(angles)), axis=1)  # [n, D/2]
    row, column = np.divmod(np.arange(patches_per_side**2), patches_per_side)
    table = np.concatenate((waves[column], waves[row]), axis=1)
    return torch.from_numpy(table).float()[None]


def unwrapped(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Published names without `net.` and what DDP or torch.compile put in between.

    UserError if they do not begin with `net.`, or if something in the set is no tensor of floats.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = ".".join(part for part in str(name).split(".") if part not in WRAPPERS)
        if not short.startswith(PREFIX):
            raise UserError(
                f"{source} holds `{name}`, but published names begin with `{PREFIX}`. Was it saved "
                f"without the class around the network? Then save it with `{PREFIX}` before every "
                "name."
            )
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_sparse:
            found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UserError(f"`{name}` of {source} is no tensor of floats, but {found}.")
        if short.removeprefix(PREFIX) in plain:
            raise UserError(f"{source} holds `{short}` twice, wrapped and plain. Keep one of them.")
        plain[short.removeprefix(PREFIX)] = tensor
    return plain


def measure(tensors: Mapping[str, Tensor], source: str) -> dict[str, int]:
    """Sizes by name, each from one tensor. UserError where it is missing or has other dims."""

    def shape(name: str, num_dims: int) -> Sequence[int]:
        if name not in tensors:
            raise UserError(
                f"{source} is no JiT as published: `{PREFIX}{name}` is missing. Only checkpoints "
                "of the published network can be read."
            )
        found = tensors[name].shape
        if len(found) != num_dims or 0 in found:
            raise UserError(
                f"`{PREFIX}{name}` of {source} has shape {list(found)}; {num_dims} dims, none of "
                "them empty, were expected."
            )
        return found

    bottleneck, num_channels, patch_size, _ = shape("x_embedder.proj1.weight", 4)
    num_labels, width = shape("y_embedder.embedding_table.weight", 2)
    (head_width,) = shape("blocks.0.attn.q_norm.weight", 1)
    num_patches = shape(TABLE, 3)[1]
    if num_labels < 2:
        raise UserError(
            f"`{PREFIX}y_embedder.embedding_table.weight` of {source} has one row, that for no "
            "label: a JiT without classes cannot be read."
        )
    if head_width % 4 or width % head_width:
        raise UserError(
            f"{source} has width {width} and heads of width {head_width} "
            f"(`{PREFIX}blocks.0.attn.q_norm.weight`); the width must be a multiple of that, and "
            "that of 4."
        )
    if math.isqrt(num_patches) ** 2 != num_patches:
        raise UserError(
            f"`{PREFIX}{TABLE}` of {source} has {num_patches} positions, which make no square; "
            "published images are square."
        )
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    return {
        "width": width,
        "depth": len(blocks),
        "heads": width // head_width,
        "bottleneck": bottleneck,
        "in_context_len": shape("in_context_posemb", 3)[1],
        "patch_size": patch_size,
        "patches_per_side": math.isqrt(num_patches),
        "num_channels": num_channels,
        "num_classes": num_labels - 1,
    }


def _require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(
                f"`{PREFIX}{name}` of {source} holds values that are not finite: its training "
                "diverged. Take an earlier checkpoint."
            )
