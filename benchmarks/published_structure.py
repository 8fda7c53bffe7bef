"""A training step built as the published PyTorch code of JiT builds it, to measure ours beside it.

Written anew from what is known of that code: attention that holds its scores in float32 and adds a
bias of zeros, each block compiled by itself, the output layer under autocast, the averages of the
weights in a Python loop, AdamW as torch makes it by default, a loss that the host waits for in
each step. It computes what our network computes; `same_function` says how nearly.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rawdiff.model.network import Network
from rawdiff.model.transformer import Transformer

AVERAGES = (0.9999, 0.9996)


class Norm(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.to(torch.float32)
        variance = x32.pow(2).mean(-1, keepdim=True)
        return (self.weight * (x32 * torch.rsqrt(variance + 1e-6))).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """All scores at once, in float32: [B, heads, N, N]."""
    bias = torch.zeros(q.size(0), 1, q.size(-2), k.size(-2), dtype=q.dtype, device=q.device)
    with torch.autocast(q.device.type, enabled=False):
        scores = q.float() @ k.float().transpose(-2, -1) / math.sqrt(q.size(-1))
    weights = torch.dropout(torch.softmax(scores + bias, dim=-1), 0.0, train=True)
    return weights @ v.to(weights.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)
    return x * cos + turned * sin


class Block(nn.Module):
    """With the weights of one of our blocks."""

    def __init__(self, ours: nn.Module, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = Norm(ours.norm1.weight), Norm(ours.norm2.weight)
        self.q_norm, self.k_norm = Norm(ours.attn.q_norm.weight), Norm(ours.attn.k_norm.weight)
        self.qkv, self.proj = copy.deepcopy(ours.attn.qkv), copy.deepcopy(ours.attn.proj)
        self.w12, self.w3 = copy.deepcopy(ours.mlp.w12), copy.deepcopy(ours.mlp.w3)
        self.modulation = nn.Sequential(nn.SiLU(), copy.deepcopy(ours.modulation.linear))

    def forward(self, x: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
        h = self.norm1(x) * (1 + scale1.unsqueeze(1)) + shift1.unsqueeze(1)
        B, N, D = h.shape
        q, k, v = self.qkv(h).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        out = attention(q, k, v).transpose(1, 2).reshape(B, N, D)
        x = x + gate1.unsqueeze(1) * self.proj(out)
        h = self.norm2(x) * (1 + scale2.unsqueeze(1)) + shift2.unsqueeze(1)
        u, w = self.w12(h).chunk(2, dim=-1)
        return x + gate2.unsqueeze(1) * self.w3(F.silu(u) * w)


class LastLayer(nn.Module):
    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.norm, self.linear = Norm(ours.norm.weight), copy.deepcopy(ours.linear)
        self.modulation = nn.Sequential(nn.SiLU(), copy.deepcopy(ours.modulation.linear))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        return self.linear(self.norm(x) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1))


class PublishedNetwork(nn.Module):
    """Patches z_t [B, N, P] at t [B] with labels [B] to x_pred [B, N, P]."""

    def __init__(self, ours: Transformer, *, compiled: bool) -> None:
        super().__init__()
        settings = ours.settings
        self.start, self.depth = settings.in_context_start, settings.depth
        self.patch_embedding = copy.deepcopy(ours.patch_embedding)
        self.time_embedding = copy.deepcopy(ours.time_embedding)
        self.label_embedding = copy.deepcopy(ours.label_embedding)
        self.in_context = nn.Parameter(ours.in_context.detach().clone())
        self.blocks = nn.ModuleList(Block(block, settings.heads) for block in ours.blocks)
        self.last_layer = LastLayer(ours.last_layer)
        self.table = nn.Parameter(ours.table.detach().clone(), requires_grad=False)
        cos, sin = (
            angles.repeat_interleave(2, dim=-1) for angles in (ours.rope_cos, ours.rope_sin)
        )
        self.angles = (cos, sin)
        pad = (0, 0, settings.in_context_len, 0)
        self.angles_in_context = (F.pad(cos, pad, value=1.0), F.pad(sin, pad, value=0.0))
        if compiled:
            for part in (*self.blocks, self.last_layer):
                part.compile()

    def forward(self, z_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        labels = self.label_embedding(label)
        c = self.time_embedding(t) + labels
        x = self.patch_embedding(z_t) + self.table
        angles, length = self.angles, len(self.in_context)
        for i, block in enumerate(self.blocks):
            if i == self.start:
                tokens = labels.unsqueeze(1).repeat(1, length, 1) + self.in_context
                x, angles = torch.cat((tokens, x), dim=1), self.angles_in_context
            x = block(x, c, *angles)
        return self.last_layer(x[:, length:], c)


class PublishedStep:
    """Images in, weights and two averages moved; the host waits for the loss."""

    def __init__(self, ours: Transformer, *, autocast: bool, compiled: bool) -> None:
        self.network = PublishedNetwork(ours, compiled=compiled)
        self.device, self.autocast = ours.device, autocast
        self.num_classes = ours.interface.num_classes
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-4, betas=(0.9, 0.95), weight_decay=0.0)
        self.averages = [copy.deepcopy(list(self.network.parameters())) for _ in AVERAGES]

    def __call__(self, images: Tensor, labels: Tensor, patch_size: int) -> float:
        """images uint8 [B, C, H, W]."""
        x = images.to(self.device, non_blocking=True).to(torch.float32).div_(255) * 2 - 1
        labels = labels.to(self.device, non_blocking=True)
        drop = torch.rand(len(labels), device=self.device) < 0.1
        labels = torch.where(drop, torch.full_like(labels, self.num_classes), labels)
        B, C, H, W = x.shape
        p = patch_size
        x = (
            x.reshape(B, C, H // p, p, W // p, p)
            .permute(0, 2, 4, 3, 5, 1)
            .reshape(B, -1, p * p * C)
        )
        t = torch.sigmoid(torch.randn(B, device=self.device) * 0.8 - 0.8)
        t_ = t.view(-1, 1, 1)
        eps = torch.randn_like(x)
        z_t = t_ * x + (1 - t_) * eps
        v = (x - z_t) / (1 - t_).clamp_min(0.05)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            x_pred = self.network(z_t, t, labels)
        v_pred = (x_pred - z_t) / (1 - t_).clamp_min(0.05)
        loss = ((v - v_pred) ** 2).mean(dim=(1, 2)).mean()
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError(f"loss is {value}")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        for decay, average in zip(AVERAGES, self.averages, strict=True):
            _average(average, self.network.parameters(), decay)
        return value


@torch.no_grad()
def _average(averages: Iterable[Tensor], weights: Iterable[Tensor], decay: float) -> None:
    for average, weight in zip(averages, weights, strict=True):
        average.detach().mul_(decay).add_(weight, alpha=1 - decay)


@torch.no_grad()
def same_function(ours: Network, theirs: PublishedNetwork, num_samples: int = 2) -> float:
    """Relative difference of the two networks' outputs in float32, on random patches."""
    interface, device = ours.interface, ours.device
    z_t = torch.randn(num_samples, ours.grid.num_patches, interface.patch_dim, device=device)
    t = torch.linspace(0.1, 0.9, num_samples, device=device)
    label = torch.arange(num_samples, device=device) % interface.num_classes
    expected = ours(z_t, t, label)
    assert isinstance(expected, Tensor)
    return float((theirs(z_t, t, label) - expected).norm() / expected.norm())
