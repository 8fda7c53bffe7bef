"""Sharded matrices, put together where they are computed: each process owns some of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional as F


def compute_whole(compute: Callable[[Tensor], Tensor], rows: Tensor, like: Tensor) -> Tensor:
    """`compute` of whole matrices [k, R, C], of which every process gets back its rows.

    rows [K, r, C] are those that lie here of K matrices, each sharded as `like` is; so is the
    result. Each of the S processes that share them computes ceil(K / S) at most. If `like` is not
    sharded they are whole already. Called by all processes.
    """
    if not isinstance(like, DTensor):
        return compute(rows)
    mesh_dim = next(i for i, placement in enumerate(like.placements) if placement.is_shard())
    group = like.device_mesh.get_group(mesh_dim)
    num_processes, num_rows = like.device_mesh.size(mesh_dim), like.shape[0]
    num_matrices, here, _ = rows.shape
    each = -(-num_rows // num_processes)  # the last processes may have fewer rows, or none
    of_owner = -(-num_matrices // num_processes)
    sent = _padded(rows, num_processes * of_owner, each)
    received = _exchanged(sent, group)
    whole = rearrange(received, "(s k) r c -> k (s r) c", s=num_processes)[:, :num_rows]
    done = _padded(compute(whole), of_owner, num_processes * each)
    back = _exchanged(rearrange(done, "k (s r) c -> (s k) r c", s=num_processes), group)
    return back[:num_matrices, :here]


def _padded(matrices: Tensor, num: int, num_rows: int) -> Tensor:
    """With zeros to so many matrices and rows: all processes exchange equal parts."""
    more, more_rows = num - matrices.shape[0], num_rows - matrices.shape[1]
    return F.pad(matrices, (0, 0, 0, more_rows, 0, more))


def _exchanged(sent: Tensor, group: torch.distributed.ProcessGroup) -> Tensor:
    """Each process gets from each its part, along the first dim, in order."""
    sent = sent.contiguous()
    received = torch.empty_like(sent)
    torch.distributed.all_to_all_single(received, sent, group=group)
    return received
