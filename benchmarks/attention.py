"""Ways to compute attention, in turn, forward and backward: python benchmarks/attention.py

For shapes of a micro-batch with as many patches as recipes have. On a CPU: torch's own kernel and
scores that are held, in float32 and bfloat16; the choice of rawdiff/model/attention.py must be the
fastest. On a GPU (--device cuda): each of torch's kernels alone, beside the one that it chooses.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from measure import write_result
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from rawdiff.model.attention import attend

SHAPES = {
    "cpu": [(16, 6, 64, 64), (16, 6, 288, 64), (4, 6, 512, 64), (4, 6, 1024, 64), (1, 6, 4096, 64)],
    "cuda": [
        (256, 12, 288, 64),
        (64, 16, 288, 80),
        (64, 16, 288, 104),
        (16, 12, 1024, 64),
        (4, 12, 4096, 64),
        (1, 12, 16384, 64),
    ],
}
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def held(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """All scores at once, in the precision of q."""
    return ((q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)).softmax(dim=-1) @ v


def ways(device: torch.device) -> dict[str, Way]:
    if device.type == "cpu":
        return {"torch": F.scaled_dot_product_attention, "held": held}

    def by(backend: SDPBackend | None) -> Way:
        def way(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            with nullcontext() if backend is None else sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v)

        return way

    return {"torch": by(None)} | {name: by(backend) for name, backend in KERNELS.items()}


def seconds(step: Callable[[], Any], device: torch.device) -> float:
    """Of the CPU's own time, or of the GPU's until all is done."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, rounds: int) -> Any:
    """Median milliseconds of each way, and which one rawdiff takes."""
    q, k, v, slope = (
        torch.randn(shape, device=device, dtype=dtype, requires_grad=i < 3) for i in range(4)
    )
    chosen = attend(q, k, v, None)
    found: dict[str, list[float]] = {}
    refused = {}
    for i in range(rounds + 1):
        for name, way in ways(device).items():
            try:
                took = seconds(
                    lambda way=way: torch.autograd.grad(way(q, k, v), (q, k, v), slope), device
                )
            except RuntimeError as error:  # a kernel that does not take this shape
                refused[name] = str(error).splitlines()[0]
                continue
            if i:
                found.setdefault(name, []).append(1000 * took)
    row: dict[str, Any] = {
        "shape": shape,
        "dtype": str(dtype).removeprefix("torch."),
        "milliseconds": {name: statistics.median(values) for name, values in found.items()},
        "refused": refused,
    }
    if device.type == "cpu":
        row["rawdiff_takes"] = "held" if torch.equal(chosen, held(q, k, v)) else "torch"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=SHAPES, default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    device, rows = torch.device(args.device), []
    dtypes = (torch.float32, torch.bfloat16) if args.device == "cpu" else (torch.bfloat16,)
    for shape in SHAPES[args.device]:
        for dtype in dtypes:
            row = measure(shape, dtype, device, args.rounds)
            rows.append(row)
            times = "  ".join(f"{way} {ms:.2f} ms" for way, ms in row["milliseconds"].items())
            print(f"{list(shape)} {row['dtype']:8s} {times}", row.get("rawdiff_takes", ""))
    print(write_result(f"attention_{args.device}", {"rows": rows}))


if __name__ == "__main__":
    main()
