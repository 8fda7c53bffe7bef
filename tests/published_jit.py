"""The published network a second time, written from its description: tensors and forward pass.

Nothing here is imported from rawdiff: names, shapes and formulas are what it is tested against.
"""

import argparse
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = {
    "width": 24,
    "depth": 3,
    "head_width": 8,
    "bottleneck": 5,
    "patch": 2,
    "per_side": 3,
    "channels": 3,
    "classes": 7,
    "tokens": 3,
}
ARGS = {
    "noise_scale": 2.0,
    "P_mean": -0.4,
    "P_std": 0.7,
    "t_eps": 0.04,
    "label_drop_prob": 0.2,
    "sampling_method": "euler",
    "num_sampling_steps": 4,
    "cfg": 1.7,
    "interval_min": 0.2,
    "interval_max": 0.9,
    "attn_dropout": 0.0,
    "proj_dropout": 0.1,
    "ema_decay1": 0.9999,
    "ema_decay2": 0.9996,
    "lr": 1e-4,
}


def shapes(
    width: int,
    depth: int,
    head_width: int,
    bottleneck: int,
    patch: int,
    per_side: int,
    channels: int,
    classes: int,
    tokens: int,
) -> dict[str, tuple[int, ...]]:
    f = int(2 / 3 * 4 * width)
    found: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, per_side**2, width),
        "in_context_posemb": (1, tokens, width),
        "t_embedder.mlp.0.weight": (width, 256),
        "t_embedder.mlp.0.bias": (width,),
        "t_embedder.mlp.2.weight": (width, width),
        "t_embedder.mlp.2.bias": (width,),
        "y_embedder.embedding_table.weight": (classes + 1, width),
        "x_embedder.proj1.weight": (bottleneck, channels, patch, patch),
        "x_embedder.proj2.weight": (width, bottleneck, 1, 1),
        "x_embedder.proj2.bias": (width,),
        "final_layer.norm_final.weight": (width,),
        "final_layer.linear.weight": (patch**2 * channels, width),
        "final_layer.linear.bias": (patch**2 * channels,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
    }
    for i in range(depth):
        for name, shape in {
            "norm1.weight": (width,),
            "attn.q_norm.weight": (head_width,),
            "attn.k_norm.weight": (head_width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "norm2.weight": (width,),
            "mlp.w12.weight": (2 * f, width),
            "mlp.w12.bias": (2 * f,),
            "mlp.w3.weight": (width, f),
            "mlp.w3.bias": (width,),
            "adaLN_modulation.1.weight": (6 * width, width),
            "adaLN_modulation.1.bias": (6 * width,),
        }.items():
            found[f"blocks.{i}.{name}"] = shape
    return found


def checkpoint(seed: int = 0, *, name: str = "JiT-odd", **sizes: int) -> dict[str, Any]:
    """In the published format, with random weights of all three kinds."""
    sizes = TINY | sizes
    random = torch.Generator().manual_seed(seed)

    def tensors() -> dict[str, Tensor]:
        drawn = {
            f"net.{key}": torch.randn(shape, generator=random) / math.sqrt(shape[-1])
            for key, shape in shapes(**sizes).items()
        }
        return drawn | {"net.pos_embed": position_table(sizes["per_side"], sizes["width"])}

    side = sizes["patch"] * sizes["per_side"]
    args = argparse.Namespace(model=name, img_size=side, class_num=sizes["classes"], **ARGS)
    sets = {key: tensors() for key in ("model", "model_ema1", "model_ema2")}
    return sets | {"epoch": 3, "args": args}


def position_table(per_side: int, width: int) -> Tensor:
    """One place after the other: sines and cosines of its column, then of its row."""
    quarter = width // 4
    rows = [
        [
            wave(place * 10000.0 ** (-i / quarter))
            for place in (column, row)
            for wave in (math.sin, math.cos)
            for i in range(quarter)
        ]
        for row in range(per_side)
        for column in range(per_side)
    ]
    return torch.tensor(rows, dtype=torch.float64).float()[None]


def forward(
    weights: dict[str, Tensor], z: Tensor, t: Tensor, label: Tensor, in_context_start: int
) -> Tensor:
    """x_pred [B, C, S, S] of z [B, C, S, S] at t [B] for label [B]."""
    w = {name.removeprefix("net."): tensor for name, tensor in weights.items()}
    patch, per_side = w["x_embedder.proj1.weight"].shape[-1], z.shape[-1]
    per_side //= patch
    x = F.conv2d(z, w["x_embedder.proj1.weight"], stride=patch)
    x = F.conv2d(x, w["x_embedder.proj2.weight"], w["x_embedder.proj2.bias"])
    x = x.flatten(2).transpose(1, 2) + w["pos_embed"]
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    waves = torch.cat((angles.cos(), angles.sin()), 1)
    time = _linear(w, "t_embedder.mlp.2", F.silu(_linear(w, "t_embedder.mlp.0", waves)))
    y = w["y_embedder.embedding_table.weight"][label]
    c = F.silu(time + y)
    turn = _turn(per_side, len(w["blocks.0.attn.q_norm.weight"]))
    depth = sum(name.endswith("norm1.weight") for name in w)
    for i in range(depth):
        if i == in_context_start:
            extra = y[:, None] + w["in_context_posemb"]
            x = torch.cat((extra, x), 1)
            turn = torch.cat((torch.ones(extra.shape[1], turn.shape[1]), turn))
        x = _block(w, f"blocks.{i}", x, c, turn)
    x = x[:, -(per_side**2) :]
    shift, scale = _linear(w, "final_layer.adaLN_modulation.1", c)[:, None].chunk(2, -1)
    x = _norm(x, w["final_layer.norm_final.weight"]) * (1 + scale) + shift
    x = _linear(w, "final_layer.linear", x)
    x = x.view(len(z), per_side, per_side, patch, patch, z.shape[1])
    return x.permute(0, 5, 1, 3, 2, 4).reshape(z.shape)


def _block(w: dict[str, Tensor], name: str, x: Tensor, c: Tensor, turn: Tensor) -> Tensor:
    a, b, g, a2, b2, g2 = _linear(w, f"{name}.adaLN_modulation.1", c)[:, None].chunk(6, -1)
    h = _norm(x, w[f"{name}.norm1.weight"]) * (1 + b) + a
    x = x + g * _attention(w, f"{name}.attn", h, turn)
    h = _norm(x, w[f"{name}.norm2.weight"]) * (1 + b2) + a2
    u, v = _linear(w, f"{name}.mlp.w12", h).chunk(2, -1)
    return x + g2 * _linear(w, f"{name}.mlp.w3", F.silu(u) * v)


def _attention(w: dict[str, Tensor], name: str, x: Tensor, turn: Tensor) -> Tensor:
    width = len(w[f"{name}.q_norm.weight"])
    q, k, v = _linear(w, f"{name}.qkv", x).chunk(3, -1)
    heads = []
    for h in range(x.shape[-1] // width):
        part = slice(h * width, (h + 1) * width)
        qh = _turned(_norm(q[..., part], w[f"{name}.q_norm.weight"]), turn)
        kh = _turned(_norm(k[..., part], w[f"{name}.k_norm.weight"]), turn)
        heads.append((qh @ kh.mT / math.sqrt(width)).softmax(-1) @ v[..., part])
    return _linear(w, f"{name}.proj", torch.cat(heads, -1))


def _turn(per_side: int, head_width: int) -> Tensor:
    """Complex numbers of length one: [patches, head_width / 2], rows first."""
    freqs = 10000.0 ** (-2 * torch.arange(head_width // 4) / (head_width / 2))
    places = [(row, column) for row in range(per_side) for column in range(per_side)]
    angles = torch.tensor(places)[:, :, None] * freqs
    return torch.polar(torch.ones(()), angles.flatten(1))


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2)


def _linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
