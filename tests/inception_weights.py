"""The Inception network with random weights: its scores mean nothing, the path to them does."""

from io import BytesIO
from pathlib import Path

import torch
from rawdiff_images.inception import library
from torch import nn


def random_state() -> dict[str, torch.Tensor]:
    """A state dict of the library's own network, in which signals keep their size."""

    class Blank(library().network.FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args, **kwargs):
            pass

    empty = BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    network = Blank("blank", ["2048"], feature_extractor_weights_path=empty)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network.state_dict()


def write_random_weights(path: Path) -> Path:
    torch.save(random_state(), path)
    return path
