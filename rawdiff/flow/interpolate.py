"""Between two draws of noise."""

from __future__ import annotations

import torch
from torch import Tensor


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """On the great circle from a (share 0) to b (share 1), both [1, …]: [B, …] for share [B].

    Norms go evenly from that of a to that of b: what lies between two draws of noise has the spread
    of noise, which their straight line has not. (Shoemake 1985)
    """
    rows, columns = a.flatten(1).double(), b.flatten(1).double()
    norms = rows.norm(dim=1, keepdim=True), columns.norm(dim=1, keepdim=True)
    rows, columns = rows / norms[0], columns / norms[1]
    share = share.double()[:, None].to(a.device)
    angle = torch.arccos((rows * columns).sum().clamp(-1, 1))
    if float(angle.sin()) < 1e-6:  # one and the same, or opposite: no circle is greater than others
        between = (1 - share) * rows + share * columns
    else:
        between = ((1 - share) * angle).sin() * rows + (share * angle).sin() * columns
        between = between / angle.sin()
    norm = (1 - share) * norms[0] + share * norms[1]
    return (norm * between).to(a.dtype).view(len(share), *a.shape[1:])
