"""Published JiT checkpoints on the disk, for tests: written, brought in, read back."""

import argparse
from pathlib import Path
from typing import Any

import torch
from rawdiff_images.jit import JiTFormat
from torch import Tensor

from rawdiff.exchange.checkpoints import import_model


def quiet(text: str) -> None:
    pass


def save(path: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, path)
    return path


def bring(path: Path, out: Path, **options: Any) -> Path:
    return import_model(JiTFormat(**({"in_context_start": 1} | options)), path, out, say=quiet)


def read_back(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [n for n in expected if not torch.equal(found[n], expected[n])]
    assert different == []  # torch.equal is False for other shapes, too
