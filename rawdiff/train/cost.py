"""What a network costs: parameters and multiply-adds; and what a chip can give."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rawdiff.model.network import Network

# Dense bfloat16 peaks in FLOP/s, by the vendors' data sheets; the first name that fits counts.
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
}
FORWARDS_A_STEP = 3  # the backward pass counts as two forward ones


@dataclass(frozen=True)
class Cost:
    """Of one sample: trained parameters, and multiply-adds of one forward pass."""

    num_parameters: int
    multiply_adds: int

    @property
    def train_flops(self) -> int:
        """Operations of a training step a sample; a multiply-add counts as two."""
        return 2 * FORWARDS_A_STEP * self.multiply_adds


def measure_cost(network: Network) -> Cost:
    """Counted on a network on the device `meta`, where nothing is computed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run_on_nothing(network, 1, torch.device("meta"))
    return Cost(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)


def run_on_nothing(network: Network, num_samples: int, device: torch.device) -> Any:
    """The output of a forward pass of samples that are all zero."""
    interface, shape, zeros = (
        network.interface,
        (num_samples, network.grid.num_patches),
        torch.zeros,
    )
    with device:
        return network(
            zeros(*shape, interface.patch_dim),
            zeros(num_samples),
            zeros(num_samples, dtype=torch.int64) if interface.num_classes else None,
            scalars=zeros(num_samples, interface.num_scalars) if interface.num_scalars else None,
            extra=zeros(*shape, interface.extra_dim) if interface.extra_dim else None,
        )


def peak_flops(device: torch.device) -> float | None:
    """Dense bfloat16 peak of the GPU in FLOP/s, None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for chip, peak in PEAK_FLOPS.items() if chip in name), None)


def matmul_flops(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Operations a second of a matrix product, measured: the fastest of a few."""
    a = torch.ones(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(6):  # the first warms up
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
