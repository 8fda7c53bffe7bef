"""Torch's own files (.pth, .pt), read without running code from them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rawdiff.errors import UserError

ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how today's files begin, and those of before torch 1.6


def read_torch_file(path: Path, allowed: Sequence[type] = ()) -> Any:
    """What a file holds, on the CPU; tensors stay on the disk until they are used.

    It may hold tensors, numbers, strings, plain containers, and objects of the classes `allowed`.
    Raises UserError, and runs nothing of it, if it holds anything else, is damaged, or is none of
    torch's files.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the file in it, such as checkpoint-last.pth.")
    if not path.is_file():
        raise UserError(f"There is no file {path}; give a checkpoint, such as checkpoint-last.pth.")
    with path.open("rb") as file:
        start = file.read(len(ZIP))
    if start != ZIP and not start.startswith(PICKLE):
        raise UserError(
            f"{path} is no file of torch: it begins with {start!r}. Give a checkpoint that was "
            "written by torch.save."
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # of unusual pickles: the errors below say more
            return torch.load(path, map_location="cpu", mmap=start == ZIP, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(path, str(error), allowed)) from None
    except Exception as error:  # a damaged file makes torch raise anything
        raise UserError(
            f"{path} is damaged or cut short: {str(error).splitlines()[0]:.200}. Fetch it again."
        ) from error


def _refusal(path: Path, message: str, allowed: Sequence[type]) -> str:
    """Torch names what it refused in the middle of a page of advice on how to run it anyway."""
    named = re.search(r"GLOBAL `?([\w.]+)", message)
    what = f"it names `{named[1]}`" if named else "it is damaged, or no plain pickle of tensors"
    classes = "".join(f", {one.__module__}.{one.__qualname__}" for one in allowed)
    return (
        f"{path} is refused, and nothing of it was run: {what}, but only tensors, plain values"
        f"{classes} are read. Such a file can run any code. Fetch the checkpoint from its authors, "
        "or have them save it again with nothing else in it."
    )
