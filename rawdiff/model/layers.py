"""The parts of the Transformer: norms, dropout, attention, MLP, block, embeddings, last layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from rawdiff import philox
from rawdiff.model.attention import attend
from rawdiff.model.network import DropoutKey
from rawdiff.model.rotary import rotate
from rawdiff.model.settings import Architecture
from rawdiff.precision import full_precision

NORM_EPS = 1e-6


@dataclass(frozen=True)
class Rotation:
    """Angles of the rotary embedding for each patch: [N, d/2] or [B, 1, N, d/2]."""

    cos: Tensor
    sin: Tensor


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) * weight over the last dim, computed in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + NORM_EPS)
        return (self.weight * normed).type_as(x)


class LayerNorm(nn.Module):
    """The usual norm with mean and offset, computed in float32; for ablations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(
            x.float(), (len(self.weight),), self.weight, self.bias, NORM_EPS
        ).type_as(x)


def make_norm(settings: Architecture, width: int) -> nn.Module:
    return RMSNorm(width) if settings.rmsnorm else LayerNorm(width)


class Dropout(nn.Module):
    """Zeroes values with probability p; which ones depends on the sample, not on its batch.

    It is number `place` of the dropouts of its layer.
    """

    PLACES = 2  # in a layer

    def __init__(self, p: float, place: int) -> None:
        super().__init__()
        self.p, self.place = p, place

    def forward(self, x: Tensor, key: DropoutKey | None) -> Tensor:
        if not self.p or key is None:
            return x
        stream = philox.Stream.DROPOUT + self.PLACES * key.layer + self.place
        kept = philox.uniform(key.seed, stream, key.index, x[0].numel()) >= self.p
        return x * kept.view_as(x) / (1 - self.p)


class Attention(nn.Module):
    """Full attention; q and k of each head are normed, then turned by their place on the grid."""

    def __init__(self, settings: Architecture) -> None:
        super().__init__()
        self.heads = settings.heads
        self.qkv = nn.Linear(settings.width, 3 * settings.width)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if settings.qk_norm:
            self.q_norm = make_norm(settings, settings.head_width)
            self.k_norm = make_norm(settings, settings.head_width)
        self.proj = nn.Linear(settings.width, settings.width)

    def forward(self, x: Tensor, rotation: Rotation | None, mask: Tensor | None) -> Tensor:
        """x [B, N, D]; mask [B, 1, 1, N], True where a patch is there."""
        q, k, v = rearrange(self.qkv(x), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation.cos, rotation.sin), rotate(k, rotation.cos, rotation.sin)
        out = attend(q, k, v, mask)
        return self.proj(rearrange(out, "b h n d -> b n (h d)"))

    @property
    def hidden_matrices(self) -> dict[Tensor, int]:
        """Weights, and how many matrices each is made of; the same below."""
        return {self.qkv.weight: 3, self.proj.weight: 1}


class SwiGLU(nn.Module):
    """(SiLU(x W1) * x W2) W3, the first two products in one. (Shazeer 2020)"""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        u, w = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(u) * w)

    @property
    def hidden_matrices(self) -> dict[Tensor, int]:
        return {self.w12.weight: 2, self.w3.weight: 1}


class GELUMLP(nn.Module):
    """Two layers with GELU between; for ablations."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.gelu(self.w1(x)))

    @property
    def hidden_matrices(self) -> dict[Tensor, int]:
        return {self.w1.weight: 1, self.w2.weight: 1}


class Modulation(nn.Module):
    """SiLU and one linear layer from the condition c [B, D] to `num` vectors [B, 1, D] each.

    Without adaLN these are the constants that leave a block plain (shift and scale 0, gate 1).
    """

    def __init__(self, settings: Architecture, num: int) -> None:
        super().__init__()
        self.num = num
        self.linear = nn.Linear(settings.width, num * settings.width) if settings.adaln else None

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        if self.linear is None:
            zero, one = c.new_zeros(()), c.new_ones(())
            return (zero, zero, one)[: self.num] * (self.num // 3 or 1)
        return self.linear(F.silu(c))[:, None].chunk(self.num, dim=-1)


class Block(nn.Module):
    """Attention and MLP, each normed, shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, settings: Architecture, *, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = (make_norm(settings, settings.width) for _ in range(2))
        self.attn = Attention(settings)
        mlp = SwiGLU if settings.swiglu else GELUMLP
        self.mlp = mlp(settings.width, settings.mlp_width)
        self.modulation = Modulation(settings, 6)
        self.drop1, self.drop2 = Dropout(dropout, 0), Dropout(dropout, 1)

    def forward(
        self,
        x: Tensor,
        c: Tensor,
        rotation: Rotation | None,
        mask: Tensor | None,
        dropout: DropoutKey | None,
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)
        h = self.attn(self.norm1(x) * (1 + scale1) + shift1, rotation, mask)
        x = x + gate1 * self.drop1(h, dropout)
        h = self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return x + gate2 * self.drop2(h, dropout)


class PatchEmbedding(nn.Module):
    """A patch [P] to width D through a bottleneck, which helps: data lie near a low dimension."""

    def __init__(self, num_inputs: int, settings: Architecture) -> None:
        super().__init__()
        self.down: nn.Linear | None = None
        if settings.bottleneck:
            self.down = nn.Linear(num_inputs, settings.bottleneck, bias=False)
            num_inputs = settings.bottleneck
        self.up = nn.Linear(num_inputs, settings.width)

    def forward(self, patches: Tensor) -> Tensor:
        return self.up(patches if self.down is None else self.down(patches))


class TimeEmbedding(nn.Module):
    """t in [0, 1] to 256 cosines and sines, then an MLP of two layers: [B] to [B, D]."""

    NUM_WAVES = 128

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(2 * self.NUM_WAVES, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        k = torch.arange(self.NUM_WAVES, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(10000) * k / self.NUM_WAVES)
        return self.linear2(F.silu(self.linear1(torch.cat((angles.cos(), angles.sin()), dim=-1))))


class ScalarEmbedding(nn.Module):
    """S standardized numbers to width D; a missing one (NaN) is told apart from a zero."""

    def __init__(self, num_scalars: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(2 * num_scalars, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, scalars: Tensor) -> Tensor:
        known = ~scalars.isnan()
        inputs = torch.cat((scalars.nan_to_num(0.0), known.type_as(scalars)), dim=-1)
        return self.linear2(F.silu(self.linear1(inputs)))


class LastLayer(nn.Module):
    """Norm, shift, scale and a linear layer to the values of a patch, in float32 throughout."""

    def __init__(self, settings: Architecture, patch_dim: int) -> None:
        super().__init__()
        self.norm = make_norm(settings, settings.width)
        self.modulation = Modulation(settings, 2)
        self.linear = nn.Linear(settings.width, patch_dim)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.modulation(c)
        x = self.norm(x) * (1 + scale) + shift
        with full_precision(x.device):
            linear = self.linear  # of weights that may have been gathered in bfloat16
            return F.linear(x.float(), linear.weight.float(), linear.bias.float())
