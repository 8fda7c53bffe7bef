"""On which device and in which precision the network runs, and how much memory there is."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias, get_args

import torch

from rawdiff.errors import UserError

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


def choose_device(device: Device) -> torch.device:
    """The device asked for; `auto` takes a GPU where there is one. UserError if it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in get_args(Device):
        raise UserError(f"`{device}` is no device; there are {', '.join(get_args(Device))}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"`train.device: {device}` was asked for, but torch {torch.__version__} finds none. "
            "Write `auto`, or install the build of torch for this machine."
        )
    return torch.device(device)


def host_memory() -> int:
    """Bytes of memory that this machine has, beside those of its GPUs."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def multiplies_in_bfloat16(precision: Precision, device_type: str) -> bool:
    """`auto`: on a GPU (`cuda`) yes, on a CPU no."""
    return precision == "bfloat16" or (precision == "auto" and device_type == "cuda")


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 matrix products with float32 weights, or float32 throughout."""
    if multiplies_in_bfloat16(precision, device.type):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """float32 inside, whatever autocast is around; the device `meta` knows no autocast."""
    if torch.amp.autocast_mode.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
