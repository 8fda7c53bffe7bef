"""Refusals before memory is taken that is not there."""

from __future__ import annotations

import torch

from rawdiff.errors import UserError
from rawdiff.precision import host_memory


def require_memory(num_values: int, what: str) -> None:
    """UserError unless this machine could hold so many float32 values at all."""
    num_bytes = torch.float32.itemsize * num_values
    there = host_memory()
    if num_bytes > there:
        raise UserError(
            f"{what} would take {num_bytes / 2**30:,.1f} GiB, but this machine has "
            f"{there / 2**30:,.1f} GiB of memory. Observe less at once."
        )
