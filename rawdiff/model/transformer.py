"""The Transformer that predicts clean patches from noisy ones ("Just image Transformers").

Li and He 2025, arXiv 2511.13720, for any patch grid: it sees patches [B, N, P] and knows where
each one lies, but not what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rawdiff.grid import PatchGrid
from rawdiff.model.layers import (
    Block,
    DropoutKey,
    LastLayer,
    PatchEmbedding,
    Rotation,
    ScalarEmbedding,
    TimeEmbedding,
)
from rawdiff.model.rotary import position_table, rotary_angles
from rawdiff.model.settings import ModelSettings


@dataclass(frozen=True)
class Interface:
    """What goes in and out beside the patch grid; follows from the data, never set by hand.

    `patch_dim` is P. `extra_dim` counts the known values that come with each patch: context, and
    the mask of missing values where it varies. `num_classes` and `num_scalars` may be 0.
    """

    patch_dim: int
    extra_dim: int = 0
    num_classes: int = 0
    num_scalars: int = 0


class Transformer(nn.Module):
    """Noisy patches z_t [B, N, P] at times t [B] to the network's output [B, N, P], float32."""

    rope_cos: Tensor
    rope_sin: Tensor
    table: Tensor

    def __init__(self, settings: ModelSettings, interface: Interface, grid: PatchGrid) -> None:
        super().__init__()
        self.settings, self.interface, self.grid = settings, interface, grid
        width, depth = settings.width, settings.depth
        self.patch_embedding = PatchEmbedding(interface.patch_dim + interface.extra_dim, settings)
        self.time_embedding = TimeEmbedding(width)
        self.label_embedding = (
            nn.Embedding(interface.num_classes + 1, width) if interface.num_classes else None
        )
        self.scalar_embedding = (
            ScalarEmbedding(interface.num_scalars, width) if interface.num_scalars else None
        )
        self.in_context = (
            nn.Parameter(torch.empty(settings.in_context_len, width))
            if settings.in_context_len
            else None
        )
        middle = range(depth // 4, depth // 4 * 3)
        self.blocks = nn.ModuleList(
            Block(settings, dropout=settings.dropout if i in middle else 0.0, layer=i)
            for i in range(depth)
        )
        self.last_layer = LastLayer(settings, interface.patch_dim)
        for name in ("rope_cos", "rope_sin", "table"):
            self.register_buffer(name, None, persistent=False)
        self.place(grid.positions(), grid.periods)

    def place(self, positions: Tensor, periods: Sequence[float | None]) -> None:
        """Compute the tables of positions [N, axes] and keep them as buffers."""
        device = self.patch_embedding.up.weight.device
        rotation, table = self._tables(positions, periods)
        self.rope_cos, self.rope_sin = rotation.cos.to(device), rotation.sin.to(device)
        self.table = table.to(device)

    def _tables(
        self, positions: Tensor, periods: Sequence[float | None]
    ) -> tuple[Rotation, Tensor]:
        cos, sin = rotary_angles(positions, periods, self.settings.head_width)
        if positions.dim() == 3:
            cos, sin = cos[:, None], sin[:, None]  # the same for all heads
        return Rotation(cos, sin), position_table(positions, periods, self.settings.width)

    @property
    def no_label(self) -> int:
        """The label that stands for "none"."""
        return self.interface.num_classes

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        label: Tensor | None = None,
        *,
        scalars: Tensor | None = None,
        extra: Tensor | None = None,
        present: Tensor | None = None,
        positions: Tensor | None = None,
        dropout: DropoutKey | None = None,
    ) -> Tensor:
        """The network's output [B, N, P].

        label [B] (num_classes means none; None: none for all), scalars [B, S] with NaN for
        unknown, extra [B, N, extra_dim]; present [B, N] is False for patches that are not there;
        positions [N, axes] or [B, N, axes] replace the grid's. `dropout` switches dropout on.
        """
        rotation, table = Rotation(self.rope_cos, self.rope_sin), self.table
        if positions is not None:
            rotation, table = self._tables(positions, self.grid.periods)
        condition = self._condition(z_t, label, scalars)
        c = self.time_embedding(t) + condition
        x = self.patch_embedding(z_t if extra is None else torch.cat((z_t, extra), dim=-1))
        x = x.float()  # what blocks add to stays in float32 under autocast
        if self.settings.position_table:
            x = x + table
        if not self.settings.adaln:
            x = x + c[:, None]
        for i, block in enumerate(self.blocks):
            if self.in_context is not None and i == self.settings.in_context_start:
                x = torch.cat((condition[:, None] + self.in_context, x), dim=1)
                rotation, present = _with_in_context(rotation, present, len(self.in_context))
            mask = None if present is None else present[:, None, None]
            x = block(x, c, rotation if self.settings.rope else None, mask, dropout)
        return self.last_layer(x[:, -z_t.shape[1] :], c)

    def _condition(self, z_t: Tensor, label: Tensor | None, scalars: Tensor | None) -> Tensor:
        """What is known of a sample beside its time: [B, D]."""
        condition = self.time_embedding.linear2.weight.new_zeros(len(z_t), self.settings.width)
        if self.label_embedding is not None:
            if label is None:
                label = torch.full((len(z_t),), self.no_label, device=z_t.device)
            condition = condition + self.label_embedding(label)
        if self.scalar_embedding is not None:
            if scalars is None:
                scalars = z_t.new_full((len(z_t), self.interface.num_scalars), torch.nan)
            condition = condition + self.scalar_embedding(scalars)
        return condition


def _with_in_context(
    rotation: Rotation, present: Tensor | None, num: int
) -> tuple[Rotation, Tensor | None]:
    """In-context patches are always there, and lie nowhere: they are not turned."""
    pad = (0, 0, num, 0)
    rotation = Rotation(F.pad(rotation.cos, pad, value=1.0), F.pad(rotation.sin, pad, value=0.0))
    if present is not None:
        present = F.pad(present, (num, 0), value=True)
    return rotation, present
