"""Refusals before memory is taken that is not there."""

from __future__ import annotations

import os

from rawdiff.errors import UserError

FLOAT32_BYTES = 4


def require_memory(num_bytes: int, what: str) -> None:
    """UserError unless this machine could hold so many bytes at all."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > there:
        raise UserError(
            f"{what} would take {num_bytes / 2**30:,.1f} GiB, but this machine has "
            f"{there / 2**30:,.1f} GiB of memory. Observe less at once."
        )
