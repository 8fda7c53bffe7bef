"""A plain multilayer perceptron as the network: the toy's, and an example of one of your own."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rawdiff import philox
from rawdiff.grid import PatchGrid
from rawdiff.model.network import DropoutKey, Interface, Network, NetworkSettings


class MLPSettings(NetworkSettings):
    """A multilayer perceptron that sees all patches at once, with ReLU between its layers.

    Time enters as cosines and sines beside the patches. (Li and He 2025, Fig. 2: five layers of 256
    units)
    """

    width: int = Field(default=256, ge=1, le=100_000)
    """Units of a hidden layer. [units]"""
    depth: int = Field(default=5, ge=2, le=1000)
    """Linear layers. [layers]"""
    num_frequencies: int = Field(default=16, ge=1, le=1000)
    """Frequencies of the cosines and sines of time. [frequencies]"""

    def build(self, interface: Interface, grid: PatchGrid) -> MLP:
        return MLP(self, interface, grid)


class MLP(Network):
    """Patches [B, N, P], time and conditions, side by side in one vector; the output [B, N, P]."""

    def __init__(self, settings: MLPSettings, interface: Interface, grid: PatchGrid) -> None:
        super().__init__(interface, grid)
        self.settings = settings
        num_classes = interface.num_classes + 1 if interface.num_classes else 0
        seen = grid.num_patches * (interface.patch_dim + interface.extra_dim)
        seen += 2 * settings.num_frequencies + num_classes + 2 * interface.num_scalars
        widths = [seen, *(settings.width,) * (settings.depth - 1)]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.last_layer = nn.Linear(widths[-1], grid.num_patches * interface.patch_dim)

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        label: Tensor | None = None,
        *,
        scalars: Tensor | None = None,
        extra: Tensor | None = None,
        present: Tensor | None = None,
        positions: Tensor | None = None,
        dropout: DropoutKey | None = None,
        class_logits: bool = False,
    ) -> Tensor:
        """As the contract says. There is no dropout, and `present` is left to `extra` to tell."""
        seen = [z_t.flatten(1), time_features(t, self.settings.num_frequencies)]
        if extra is not None:
            seen.append(extra.flatten(1))
        if self.interface.num_classes:
            no_label = self.interface.num_classes
            label = torch.full_like(t, no_label, dtype=torch.int64) if label is None else label
            seen.append(F.one_hot(label, no_label + 1).to(z_t.dtype))
        if self.interface.num_scalars:
            if scalars is None:
                scalars = z_t.new_full((len(z_t), self.interface.num_scalars), torch.nan)
            seen += [scalars.nan_to_num(0.0), scalars.isnan().to(z_t.dtype)]
        h = torch.cat(seen, dim=1)
        for layer in self.layers:
            h = F.relu(layer(h))
        return self.last_layer(h).view_as(z_t).float()

    @property
    def hidden_matrices(self) -> dict[Tensor, int]:
        """Those of all layers but the first, which reads the patches, and the last."""
        return {p: 1 for p in self.layers[1:].parameters() if p.dim() == 2}

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Weights uniform with variance 2 / inputs (He et al. 2015), the last layer's and biases 0.

        The first output of every prediction is therefore 0.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.startswith("last_layer"):
                parameter.zero_()
                continue
            index = philox.name_index(name, parameter.device)
            u = philox.uniform(seed, philox.Stream.WEIGHTS, index, parameter.numel())
            bound = math.sqrt(6 / parameter.shape[1])
            parameter.copy_((bound * (2 * u - 1)).view_as(parameter))


def time_features(t: Tensor, num_frequencies: int) -> Tensor:
    """cos(k π t) and sin(k π t) for k = 1 … num_frequencies: t [B] to [B, 2 num_frequencies]."""
    k = torch.arange(1, num_frequencies + 1, device=t.device)
    angle = math.pi * k * t[:, None]
    return torch.cat((angle.cos(), angle.sin()), dim=1)
