"""The optimizer of a run: AdamW, or Muon for hidden matrices beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.model.network import Network
from rawdiff.parallel.apply import local
from rawdiff.precision import multiplies_in_bfloat16
from rawdiff.recipe import TrainSettings
from rawdiff.train.muon import Muon, orthogonalize_flops

BFLOAT16_BYTES = 2


def make_optimizer(network: Network, train: TrainSettings) -> torch.optim.AdamW:
    """In float32; weight decay acts on matrices alone."""
    hidden = _muon_matrices(network, train)
    others = [p for p in network.parameters() if p not in hidden]
    groups = [
        {"params": [p for p in others if p.dim() >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
    ]
    if not hidden:
        return torch.optim.AdamW(groups, lr=train.learning_rate, betas=train.betas, fused=True)
    groups += [
        {"params": matrices, "weight_decay": train.weight_decay, "parts": parts}
        for (_, parts), matrices in _equal(hidden).items()
    ]
    in_bfloat16 = multiplies_in_bfloat16(train.precision, network.device.type)
    return Muon(
        groups,
        lr=train.learning_rate,
        betas=train.betas,
        dtype=torch.bfloat16 if in_bfloat16 else torch.float32,
    )


def take_step(optimizer: torch.optim.AdamW, taken: Tensor) -> None:
    """A step of the optimizer; if it is not `taken`, its kernels leave all as it was.

    That is how torch's gradient scaler skips steps, too.
    """
    optimizer.found_inf = taken.logical_not().float()  # type: ignore[attr-defined]
    optimizer.step()


def num_moments(network: Network, train: TrainSettings) -> int:
    """Values that the optimizer keeps on this process: two for each weight, one where Muon acts."""
    hidden = _muon_matrices(network, train)
    return sum(local(p.detach()).numel() * (1 if p in hidden else 2) for p in network.parameters())


@dataclass(frozen=True)
class MuonCost:
    """Of a step, on a process that owns the most matrices: operations, and bytes that it sends to
    those that share the weights, and receives."""

    flops: int = 0
    sent_bytes: int = 0


def muon_cost(network: Network, train: TrainSettings, num_sharing: int) -> MuonCost:
    """With products in bfloat16; nothing for AdamW."""
    flops = num_sent = 0
    for (shape, parts), matrices in _equal(_muon_matrices(network, train)).items():
        num_rows, num_columns = shape
        of_owner = -(-len(matrices) // num_sharing)
        flops += of_owner * parts * orthogonalize_flops(num_rows // parts, num_columns)
        of_other = of_owner * -(-num_rows // num_sharing) * num_columns
        num_sent += 2 * (num_sharing - 1) * of_other  # there, and back
    return MuonCost(flops, BFLOAT16_BYTES * num_sent)


def _equal(matrices: Mapping[Tensor, int]) -> dict[tuple[torch.Size, int], list[Tensor]]:
    """By shape and number of parts."""
    found: dict[tuple[torch.Size, int], list[Tensor]] = defaultdict(list)
    for p, parts in matrices.items():
        found[p.shape, parts].append(p)
    return found


def _muon_matrices(network: Network, train: TrainSettings) -> Mapping[Tensor, int]:
    """Those that Muon moves, and how many each is made of. UserError if the network has none."""
    if train.optimizer != "muon":
        return {}
    matrices = network.hidden_matrices
    name = type(network).__name__
    if not matrices:
        raise UserError(
            f"`train.optimizer: muon` moves hidden matrices, and the network {name} names none. "
            "Write `adamw`, or let its `hidden_matrices` name them."
        )
    for p, parts in matrices.items():
        if p.dim() != 2 or parts < 1 or p.shape[0] % parts:
            raise UserError(
                f"`hidden_matrices` of the network {name} holds a weight of shape "
                f"{list(p.shape)} as {parts} matrices. Name weights of two dims, whose rows are a "
                "multiple of that number."
            )
    return matrices
