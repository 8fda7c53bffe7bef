"""The contract of a network: noisy patches in, what they say of the clean ones out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rawdiff.grid import PatchGrid
from rawdiff.settings import Settings


@dataclass(frozen=True)
class Interface:
    """What goes in and out beside the patch grid; follows from the data, never set by hand.

    `patch_dim` is P. `extra_dim` counts the known values that come with each patch: context, and
    the mask of missing values where it varies. `num_classes` and `num_scalars` may be 0.
    """

    patch_dim: int
    extra_dim: int = 0
    num_classes: int = 0
    num_scalars: int = 0


@dataclass(frozen=True)
class DropoutKey:
    """What dropout masks are made of: the run's seed, each sample's place in the run [B], a layer.

    The layer is a tensor [] where layers are compiled, so that equal ones share their code.
    """

    seed: int
    index: Tensor
    layer: Tensor | int = 0

    def of_layer(self, layer: int) -> DropoutKey:
        return replace(self, layer=torch.full((), layer, device=self.index.device))


class Network(nn.Module, ABC):
    """Noisy patches z_t [B, N, P] at times t [B] to an output [B, N, P], float32.

    What the output means (x, eps or v) is the flow's affair. A network knows one device; its
    parameters begin as NaN and are filled by `initialize` or from a checkpoint.
    """

    def __init__(self, interface: Interface, grid: PatchGrid) -> None:
        super().__init__()
        self.interface, self.grid = interface, grid

    @abstractmethod
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
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The output [B, N, P].

        label [B] (num_classes means none; None: none for all), scalars [B, S] with NaN for
        unknown, extra [B, N, extra_dim]; present [B, N] is False for patches that are not there.
        positions [B, N, axes] replace the grid's, for samples that differ in them.
        `dropout` switches dropout on.
        """

    @abstractmethod
    def initialize(self, seed: int) -> None:
        """Fill every parameter in place: a function of the seed and its name (`rawdiff.philox`)."""

    def place(self) -> None:
        """Compute buffers that follow from the grid, once there is memory; a network may have none.

        Buffers are not part of a checkpoint.
        """

    @property
    def units(self) -> Sequence[nn.Module]:
        """Modules called one after another that hold most of the weights, such as blocks.

        Each is recomputed and sharded by itself; a small network needs none.
        """
        return ()

    @property
    def compiled_parts(self) -> Sequence[nn.Module]:
        """Modules that are each compiled by itself, where a run compiles: by default the units."""
        return self.units

    @property
    def hidden_matrices(self) -> Mapping[Tensor, int]:
        """Weights between hidden layers, which Muon may train, and of how many matrices each is.

        One that computes several products at once holds equal matrices, one below another. What
        reads the input or a condition, or writes the output, is not among them.
        """
        return {}

    @property
    def has_class_head(self) -> bool:
        """Whether `class_logits=True` gives (output, logits [B, num_classes])."""
        return False

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class NetworkSettings(Settings, ABC):
    """Fields are the keys that a recipe may write under `model:`."""

    @abstractmethod
    def build(self, interface: Interface, grid: PatchGrid) -> Network:
        """The network; called under `torch.device("meta")`, where it takes no memory."""
