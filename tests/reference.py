"""The recorded data of the published network, and its checkpoint as an import."""

import json
import tempfile
from pathlib import Path
from typing import Any

from rawdiff_images.jit import JiTFormat
from safetensors.torch import load_file
from torch import Tensor

from rawdiff.exchange.checkpoints import import_model
from rawdiff.run import TrainedModel, load


def load_recorded(folder: Path) -> tuple[TrainedModel, dict[str, Any]]:
    """The weights that the recorded data belong to, through import and load; their sizes."""
    config = json.loads((folder / "config.json").read_text())
    form = JiTFormat(
        weights=config["outputs_belong_to"], in_context_start=config["in_context_start"]
    )
    with tempfile.TemporaryDirectory() as out:
        import_model(form, folder / "checkpoint-last.pth", Path(out), say=lambda text: None)
        return load(out, device="cpu"), config


def load_io(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "io.safetensors")
