"""From distances of residues to coordinates: completed, embedded, refined, of the right hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff_molecules.geometry import present
from rawdiff_molecules.handedness import hands
from rawdiff_molecules.pair_geometry import omega, outward

MIN_RESIDUES = 4  # fewer have no hand
NEAR = 12.0  # Angstrom; omega of residues farther apart says little of a chain's hand
MAX_PAIRS = 2_000_000  # refined at once
NUM_ITERATIONS = 150


@dataclass(frozen=True)
class Decoded:
    """CA [L, 3] in Angstrom, NaN where the map has none.

    `stress` is the root mean square difference of their distances from those of the map, over all
    known pairs. The hand is the one for which `shape_vote` and `omega_vote` are together above 0:
    that of helices and strands, and that of the map's omega. `failure` says why there are no
    coordinates.
    """

    ca: Tensor
    stress: float = float("nan")
    shape_vote: float = 0.0
    omega_vote: float = 0.0
    failure: str | None = None


def decode(maps: Tensor, joined: Tensor, *, relative: bool = False) -> list[Decoded]:
    """Of maps [n, 1 or 3, L, L]: distances in Angstrom, and sine and cosine of omega, if there.

    NaN where unknown: distances that are missing between residues that have some are first taken
    from the shortest path over others. `joined` [n, L - 1] says which residues follow one another.
    With `relative` errors of distances d are taken to grow as 1 + d, otherwise to be all alike.
    """
    per_part = max(MAX_PAIRS // maps.shape[-1] ** 2, 1)
    parts = zip(torch.split(maps, per_part), torch.split(joined, per_part), strict=True)
    return [found for part in parts for found in _decode(*part, relative)]


def _decode(maps: Tensor, joined: Tensor, relative: bool) -> list[Decoded]:
    maps = maps.detach().cpu().double()
    distances = symmetric(maps[:, 0])
    complete, failures = _usable(shortest_paths(distances))
    known = torch.where(complete.isnan(), torch.nan, distances)
    ca = refine(embed(complete), known, (1 + known).pow(-2) if relative else None)
    by_shape = hands(ca, joined.cpu()).vote.double()
    by_omega = _omega_vote(ca, maps[:, 1]) if maps.shape[1] > 1 else torch.zeros_like(by_shape)
    sign = torch.where(by_shape + by_omega < 0, -1.0, 1.0).double()
    ca = ca * torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)[:, None]
    votes = torch.stack([stress(ca, distances), sign * by_shape, sign * by_omega], dim=1).tolist()
    return [
        Decoded(points, *numbers)
        if failure is None
        else Decoded(torch.full_like(points, torch.nan), failure=failure)
        for points, numbers, failure in zip(ca, votes, failures, strict=True)
    ]


def symmetric(distances: Tensor) -> Tensor:
    """The mean [n, L, L] of both triangles, of one where the other is missing; 0 to itself.

    NaN all along the rows and columns of residues that have no distance to others.
    """
    both = torch.stack([distances, distances.mT]).nanmean(dim=0).clamp(min=0)
    diagonal = torch.eye(both.shape[-1], dtype=torch.bool, device=both.device)
    there = (both.isfinite() & ~diagonal).any(dim=-1)
    both = torch.where(there[:, None] & there[..., None], both, torch.nan)
    return torch.where(diagonal & there[:, None], 0.0, both)


def shortest_paths(distances: Tensor) -> Tensor:
    """Missing ones of [n, L, L] over residues between; inf where no path leads. (Floyd 1962)

    Rows and columns of residues that are not there stay NaN.
    """
    there = distances.diagonal(dim1=-2, dim2=-1).isfinite()
    pairs = there[:, None] & there[..., None]
    known = torch.where(distances.isfinite(), distances, torch.inf)
    found = known
    if bool((pairs & known.isinf()).any()):
        for k in range(distances.shape[-1]):
            found = torch.minimum(found, found[..., k : k + 1] + found[..., k : k + 1, :])
    found = torch.where(known.isinf(), found, known)
    return torch.where(pairs, found, torch.nan)


def _usable(distances: Tensor) -> tuple[Tensor, Sequence[str | None]]:
    """Distances without the maps that cannot be embedded, and why they cannot."""
    num_residues = distances.diagonal(dim1=-2, dim2=-1).isfinite().sum(dim=-1)
    failures: list[str | None] = []
    for num, own in zip(num_residues.tolist(), distances, strict=True):
        if num < MIN_RESIDUES:
            failures.append(f"{num} residues have distances; {MIN_RESIDUES} are needed")
        elif bool(own.isinf().any()):
            failures.append("no known distances lead from one part of the residues to another")
        else:
            failures.append(None)
    bad = torch.tensor([failure is not None for failure in failures])
    return torch.where(bad[:, None, None], torch.nan, distances), failures


def embed(distances: Tensor) -> Tensor:
    """Points [n, L, 3] with about these distances [n, L, L], of either hand. (Torgerson 1952)"""
    there = distances.diagonal(dim1=-2, dim2=-1).isfinite()
    pairs = there[:, None] & there[..., None]
    square = torch.where(pairs, distances, 0).square()
    num = there.sum(dim=-1).clamp(min=1)[:, None, None]
    rows = square.sum(dim=-1, keepdim=True) / num
    gram = -0.5 * (square - rows - rows.mT + rows.sum(dim=-2, keepdim=True) / num)
    values, vectors = torch.linalg.eigh(torch.where(pairs, gram, 0))
    points = vectors[..., -3:] * values[:, None, -3:].clamp(min=0).sqrt()
    return torch.where(there[..., None], points, torch.nan)


def refine(points: Tensor, distances: Tensor, weight: Tensor | None = None) -> Tensor:
    """Points [n, L, 3] moved until their distances differ least from those known [n, L, L].

    The mean of squared differences, weighted by `weight` [n, L, L], is minimized by L-BFGS, for
    all maps together.
    """
    known, there = distances.isfinite(), present(points)
    weight = torch.where(known, 1 if weight is None else weight, 0)
    weight = weight / weight.sum(dim=(-1, -2), keepdim=True).clamp(min=1e-12)
    wanted = torch.where(known, distances, 0)
    x = torch.where(there[..., None], points, 0).contiguous().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=NUM_ITERATIONS,
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def mean_square() -> Tensor:
        """With its gradient, which needs no tensor of [n, L, L, 3]."""
        found = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").clamp(min=1e-6)
        errors = found - wanted
        pull = 4 * weight * errors / found
        x.grad = pull.sum(dim=-1, keepdim=True) * x - pull @ x
        return (weight * errors.square()).sum()

    optimizer.step(mean_square)  # type: ignore[no-untyped-call]
    return torch.where(there[..., None], x.detach(), torch.nan)


def stress(points: Tensor, distances: Tensor) -> Tensor:
    """Root mean square difference [n] from the distances [n, L, L] that are known."""
    known = distances.isfinite().triu(diagonal=1)
    found = (points[:, :, None] - points[:, None]).norm(dim=-1)
    errors = torch.where(known, found - distances, 0).square()
    return (errors.sum(dim=(-1, -2)) / known.sum(dim=(-1, -2))).sqrt()


def _omega_vote(ca: Tensor, sines: Tensor) -> Tensor:
    """Above 0 [n] for points of the hand that sines of omega [n, L, L] tell; of near pairs."""
    own = omega(ca, outward(ca)).sin()
    near = (ca[:, :, None] - ca[:, None]).norm(dim=-1) < NEAR
    return torch.where(near, own * sines, torch.nan).nansum(dim=(-1, -2)) / 2
