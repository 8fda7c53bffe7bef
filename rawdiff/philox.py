"""Randomness without state: Philox4x32-10 keyed by (seed, stream, sample, element).

Every random number of a run is a pure function of the seed, of what it is for (the stream), of the
sample's place in the whole run and of the element within the sample. How samples are spread over
batches, processes or restarts cannot change a bit of it.

Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import math
import zlib
from enum import IntEnum

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, as fractions of 2^32
NUM_ROUNDS = 10
MASK = 0xFFFFFFFF


class Stream(IntEnum):
    """What a random number is for. The values are part of a run: never renumber."""

    ORDER = 0
    TIME = 1
    NOISE = 2
    LABEL_DROP = 3
    AUGMENT = 4
    WEIGHTS = 5
    SAMPLE_NOISE = 6
    SPLIT = 7
    DATA = 8  # of datasets that make their samples
    DEQUANTIZE = 9
    SEEN_NOISE = 10  # of an observation
    DROPOUT = 1 << 16  # + number of the dropout layer
    STEP_NOISE = 1 << 17  # + number of the step of sampling
    PROBE = 1 << 18  # + number of the probe of a divergence
    CALIBRATION = 1 << 19  # + kind of randomness
    RESAMPLE_NOISE = 1 << 20  # + number of the repetition among all of a sampling


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int | Tensor, int | Tensor]
) -> list[Tensor]:
    """Philox4x32-10: four words of 32 bits in int64 tensors that broadcast, to four more."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(NUM_ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # all 64 bits, sign or not
        c0, c2 = ((product1 >> 32) ^ c1 ^ k0) & MASK, ((product0 >> 32) ^ c3 ^ k1) & MASK
        c1, c3 = product1, product0  # of which only the low words count
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return [c0, c1 & MASK, c2, c3 & MASK]


def _words(
    seed: int | Tensor, stream: int | Tensor, index: Tensor, num_elements: int
) -> list[Tensor]:
    """Elements 0, 4, 8 … of each sample [B, a quarter of them, rounded up], then 1, 5, 9 …"""
    blocks = torch.arange(-(-num_elements // 4), device=index.device)
    counter = (
        blocks[None, :],
        stream.view(1, 1) if isinstance(stream, Tensor) else index.new_full((1, 1), stream),
        (index & MASK)[:, None],
        (index >> 32)[:, None],
    )
    return philox(counter, (seed & MASK, (seed >> 32) & MASK))


def _in_turn(parts: list[Tensor], num_elements: int) -> Tensor:
    """Four tensors of which each has every fourth element, as one [B, num_elements].

    Taken last of all, so that a compiler makes one kernel of what comes before.
    """
    return torch.stack(parts, dim=-1).flatten(1)[:, :num_elements]


def random_bits(
    seed: int | Tensor, stream: int | Tensor, index: Tensor, num_elements: int
) -> Tensor:
    """32 random bits for each element of each sample: index [B] to int64 [B, num_elements].

    Seed and stream are numbers, or tensors [] of one: a compiler makes code for each number.
    """
    return _in_turn(_words(seed, stream, index, num_elements), num_elements)


def uniform(seed: int | Tensor, stream: int | Tensor, index: Tensor, num_elements: int) -> Tensor:
    """Uniform in (0, 1), never 0 or 1; float32 [B, num_elements] of 23 random bits each."""
    words = _words(seed, stream, index, num_elements)
    return _in_turn([_to_uniform(word) for word in words], num_elements)


def _to_uniform(bits: Tensor) -> Tensor:
    return ((bits >> 9).float() + 0.5) * 2.0**-23


def normal(seed: int | Tensor, stream: int, index: Tensor, num_elements: int) -> Tensor:
    """Standard normal, float32 [B, num_elements], by Box and Muller 1958."""
    u = [_to_uniform(word) for word in _words(seed, stream, index, num_elements)]
    return _in_turn([*_normal_pair(u[0], u[1]), *_normal_pair(u[2], u[3])], num_elements)


def _normal_pair(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    radius, angle = torch.sqrt(-2 * torch.log(u)), (2 * math.pi) * w
    return radius * torch.cos(angle), radius * torch.sin(angle)


def signs(seed: int, stream: int, index: Tensor, num_elements: int) -> Tensor:
    """-1 or 1, as likely; float32 [B, num_elements]. (Rademacher)"""
    return 2 * (uniform(seed, stream, index, num_elements) > 0.5).float() - 1


def name_index(name: str, device: torch.device) -> Tensor:
    """A sample index [1] made from a name, for randomness that belongs to a named parameter."""
    return torch.tensor([zlib.crc32(name.encode())], dtype=torch.int64, device=device)


def permutation(seed: int, stream: int, index: int, length: int) -> Tensor:
    """A random order of 0 … length - 1, int64 on the CPU: the order of random 62-bit keys."""
    bits = random_bits(seed, stream, torch.tensor([index]), 2 * length)[0]
    keys = (bits[:length] << 30) ^ bits[length:]
    return torch.argsort(keys, stable=True)
