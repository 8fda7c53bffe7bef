"""The recorded data of the published network, and its checkpoint under our names."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.network import Interface
from rawdiff.model.transformer import Transformer, TransformerSettings

NAMES = [
    (r"x_embedder\.proj1\.weight", "patch_embedding.down.weight"),
    (r"x_embedder\.proj2\.", "patch_embedding.up."),
    (r"t_embedder\.mlp\.0\.", "time_embedding.linear1."),
    (r"t_embedder\.mlp\.2\.", "time_embedding.linear2."),
    (r"y_embedder\.embedding_table\.", "label_embedding."),
    (r"in_context_posemb", "in_context"),
    (r"adaLN_modulation\.1\.", "modulation.linear."),
    (r"final_layer\.norm_final\.", "last_layer.norm."),
    (r"final_layer\.", "last_layer."),
]


def load_network(folder: Path) -> tuple[Transformer, dict[str, Any]]:
    config = json.loads((folder / "config.json").read_text())
    with torch.serialization.safe_globals([argparse.Namespace]):
        tensors = torch.load(folder / "checkpoint-last.pth", weights_only=True)["model"]
    settings = TransformerSettings(
        width=config["hidden_size"],
        depth=config["depth"],
        heads=config["num_heads"],
        bottleneck=config["bottleneck_dim"],
        in_context_len=config["in_context_len"],
        in_context_start=config["in_context_start"],
        swiglu_multiple=1,
    )
    side = config["img_size"] // config["patch_size"]
    grid = PatchGrid((Axis.regular("row", side), Axis.regular("column", side)))
    interface = Interface(3 * config["patch_size"] ** 2, num_classes=config["num_classes"])
    model = Transformer(settings, interface, grid)
    model.load_state_dict(_renamed(tensors))
    return model.eval(), config


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("net.")
        if name == "pos_embed":
            continue
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        if name == "patch_embedding.down.weight":
            tensor = tensor.permute(0, 2, 3, 1)  # the channel runs fastest in our patches
            tensor = tensor.flatten(1)
        elif name == "patch_embedding.up.weight":
            tensor = tensor.flatten(1)
        elif name == "in_context":
            tensor = tensor[0]
        renamed[name] = tensor
    return renamed


def load_io(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "io.safetensors")
