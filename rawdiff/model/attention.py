"""Softmax attention in the way that is fastest for the device, precision and number of patches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_HELD = 1024
"""Patches up to which torch's own attention is slower on a CPU in bfloat16, forward and backward:
4.5 times at 64, 2.8 at 288, 1.2 at 1,024; beyond, it is faster. (benchmarks/attention.py)"""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / sqrt(d)) v for [B, heads, N, d].

    mask [B, 1, 1, N] is True where a patch is there. torch chooses among its kernels, but on a CPU
    in bfloat16: there scores are held [B, heads, N, N], as its only kernel multiplies in float32.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[-2] <= MAX_HELD:
        scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@contextmanager
def never_held() -> Iterator[None]:
    """Inside, torch's own attention is taken on a CPU, too; what it keeps is what a GPU keeps."""
    global MAX_HELD
    before, MAX_HELD = MAX_HELD, 0
    try:
        yield
    finally:
        MAX_HELD = before
