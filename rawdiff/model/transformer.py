"""The Transformer that predicts clean patches from noisy ones ("Just image Transformers").

Li and He 2025, arXiv 2511.13720, for any patch grid: it sees patches [B, N, P] and knows where
each one lies, but not what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid
from rawdiff.model.initialize import initialize
from rawdiff.model.layers import (
    GELUMLP,
    Attention,
    Block,
    LastLayer,
    PatchEmbedding,
    Rotation,
    ScalarEmbedding,
    SwiGLU,
    TimeEmbedding,
)
from rawdiff.model.network import DropoutKey, Interface, Network
from rawdiff.model.rotary import position_table, rotary_angles
from rawdiff.model.settings import Architecture


class TransformerSettings(Architecture):
    """A plain Transformer. `size` fills in the published sizes; keys beside it win.

    The switches take single parts of the network away, for ablations.
    """

    def build(self, interface: Interface, grid: PatchGrid) -> Transformer:
        return Transformer(self, interface, grid)


class Transformer(Network):
    """Noisy patches z_t [B, N, P] at times t [B] to the network's output [B, N, P], float32."""

    rope_cos: Tensor
    rope_sin: Tensor
    table: Tensor

    def __init__(self, settings: Architecture, interface: Interface, grid: PatchGrid) -> None:
        super().__init__(interface, grid)
        self.settings = settings
        width, depth = settings.width, settings.depth
        if settings.class_head is not None and not interface.num_classes:
            raise UserError("`model.class_head` reads classes, but the data have none.")
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
            Block(settings, dropout=settings.dropout if i in middle else 0.0) for i in range(depth)
        )
        self.class_head = (
            nn.Linear(width, interface.num_classes) if settings.class_head is not None else None
        )
        self.last_layer = LastLayer(settings, interface.patch_dim)
        for name in ("rope_cos", "rope_sin", "table"):
            self.register_buffer(name, None, persistent=False)
        self.place()

    def place(self) -> None:
        """Compute the tables of the grid's positions."""
        rotation, table = self._tables(self.grid.positions(), self.grid.periods)
        self.rope_cos = rotation.cos.to(self.device)
        self.rope_sin = rotation.sin.to(self.device)
        self.table = table.to(self.device)

    def initialize(self, seed: int) -> None:
        initialize(self, seed)

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
        class_logits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """As the contract says; positions [N, axes] or [B, N, axes] replace the grid's."""
        settings = self.settings
        rotation, table = Rotation(self.rope_cos, self.rope_sin), self.table
        if positions is not None:
            rotation, table = self._tables(positions, self.grid.periods)
        unlabelled = self._scalar_condition(z_t, scalars)
        condition = unlabelled + self._label_condition(z_t, label)
        c_t = self.time_embedding(t)
        x = self.patch_embedding(z_t if extra is None else torch.cat((z_t, extra), dim=-1))
        x = x.float()  # what blocks add to stays in float32 under autocast
        if settings.position_table:
            x = x + table
        if not settings.adaln:
            x = x + (c_t + condition)[:, None]
        logits, c = None, c_t + (condition if self.class_head is None else unlabelled)
        for i, block in enumerate(self.blocks):
            if self.class_head is not None and i == settings.class_head:
                logits = self.class_head(_mean_patch(x, present))
                c = c_t + condition
            if self.in_context is not None and i == settings.in_context_start:
                x = torch.cat((condition[:, None] + self.in_context, x), dim=1)
                rotation, present = _with_in_context(rotation, present, len(self.in_context))
            mask = None if present is None else present[:, None, None]
            key = None if dropout is None else dropout.of_layer(i)
            x = block(x, c, rotation if settings.rope else None, mask, key)
        output = self.last_layer(x[:, -z_t.shape[1] :], c)
        return (output, logits) if class_logits and logits is not None else output

    @property
    def units(self) -> Sequence[nn.Module]:
        return tuple(self.blocks)

    @property
    def compiled_parts(self) -> Sequence[nn.Module]:
        return (*self.blocks, self.last_layer)

    @property
    def hidden_matrices(self) -> Mapping[Tensor, int]:
        layers = (m for m in self.modules() if isinstance(m, Attention | SwiGLU | GELUMLP))
        return {p: parts for layer in layers for p, parts in layer.hidden_matrices.items()}

    @property
    def has_class_head(self) -> bool:
        return self.class_head is not None

    def _label_condition(self, z_t: Tensor, label: Tensor | None) -> Tensor:
        """The embedded label [B, D]; 0 without labels."""
        if self.label_embedding is None:
            return z_t.new_zeros(z_t.shape[0], self.settings.width)  # `len` would be a constant
        if label is None:
            label = torch.full(z_t.shape[:1], self.no_label, device=z_t.device)
        return self.label_embedding(label)

    def _scalar_condition(self, z_t: Tensor, scalars: Tensor | None) -> Tensor:
        """The embedded scalars [B, D]; 0 without."""
        if self.scalar_embedding is None:
            return z_t.new_zeros(z_t.shape[0], self.settings.width)  # `len` would be a constant
        if scalars is None:
            scalars = z_t.new_full((z_t.shape[0], self.interface.num_scalars), torch.nan)
        return self.scalar_embedding(scalars)


def _mean_patch(x: Tensor, present: Tensor | None) -> Tensor:
    """The mean over the patches [B, N, D] that are there: [B, D]."""
    if present is None:
        return x.mean(1)
    there = present[..., None].to(x)
    return (x * there).sum(1) / there.sum(1).clamp(min=1)


def _with_in_context(
    rotation: Rotation, present: Tensor | None, num: int
) -> tuple[Rotation, Tensor | None]:
    """In-context patches are always there, and lie nowhere: they are not turned."""
    pad = (0, 0, num, 0)
    rotation = Rotation(F.pad(rotation.cos, pad, value=1.0), F.pad(rotation.sin, pad, value=0.0))
    if present is not None:
        present = F.pad(present, (num, 0), value=True)
    return rotation, present
