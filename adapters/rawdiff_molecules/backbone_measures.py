"""What is measured of each backbone by itself, as sums and numbers that add up over chains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rawdiff_molecules.geometry import CA, distance, present, radius_of_gyration
from rawdiff_molecules.handedness import hands
from rawdiff_molecules.peptide import (
    ANGLES,
    BONDS,
    CA_CA,
    Torsions,
    bond_angles,
    bond_lengths,
    count_clashes,
    expected_radius,
    torsions,
)

CA_CA_LIMIT = 0.1  # Angstrom
BOND_LIMIT, ANGLE_LIMIT, OMEGA_LIMIT = 0.05, 10.0, 30.0  # Angstrom, degrees, degrees
NUM_BINS = 36  # of 10 degrees, along each side of a Ramachandran plot

MEASURES = (
    "ca_ca",
    "ca_ca_error",
    "bonds",
    "bond_error",
    "angles",
    "angle_error",
    "planar",
    "cis",
    "negative_phi",
    "right_handed",
    "mirror_images",
    "clashes",
    "radius",
)
"""What `measure` finds, in this order."""


def measure(backbone: Tensor, joined: Tensor) -> Tensor:
    """Of n backbones [n, L, 4, 3] the sum and the number of each of MEASURES: [n, M, 2], float64.

    `joined` [n, L - 1] says which residues follow one another.
    """
    ca = backbone[..., CA, :]
    joined = joined & present(ca[:, 1:]) & present(ca[:, :-1])
    found = (
        _neighbours(ca, joined)
        | _peptides(backbone, joined)
        | _torsions(torsions(backbone, joined))
        | _folds(ca, joined)
    )
    return torch.stack([found[name] for name in MEASURES], dim=1)


def _total(values: Tensor) -> Tensor:
    """Sum and number [n, 2] of values [n, …], NaN left out."""
    values = values.flatten(1).double()
    return torch.stack([values.nansum(dim=1), (~values.isnan()).sum(dim=1)], dim=1)


def _within(errors: Tensor, limit: float) -> Tensor:
    """1 where an error is at most `limit`, 0 where it is not, NaN where there is none."""
    return torch.where(errors.isnan(), torch.nan, (errors <= limit).to(errors.dtype))


def _neighbours(ca: Tensor, joined: Tensor) -> dict[str, Tensor]:
    found = distance(ca[:, 1:], ca[:, :-1])
    errors = torch.where(joined, (found - CA_CA).abs(), torch.nan)
    return {"ca_ca": _total(_within(errors, CA_CA_LIMIT)), "ca_ca_error": _total(errors)}


def _peptides(backbone: Tensor, joined: Tensor) -> dict[str, Tensor]:
    lengths, angles = bond_lengths(backbone, joined), bond_angles(backbone, joined)
    length_errors = torch.cat([(lengths[k] - BONDS[k]).abs() for k in BONDS], dim=1)
    angle_errors = torch.cat([(angles[k] - ANGLES[k]).abs() for k in ANGLES], dim=1)
    return {
        "bonds": _total(_within(length_errors, BOND_LIMIT)),
        "bond_error": _total(length_errors),
        "angles": _total(_within(angle_errors, ANGLE_LIMIT)),
        "angle_error": _total(angle_errors),
    }


def _torsions(found: Torsions) -> dict[str, Tensor]:
    from_trans = math.pi - found.omega.abs()
    off_plane = torch.rad2deg(torch.minimum(from_trans, found.omega.abs()))
    positive = torch.where(found.phi.isnan(), torch.nan, (found.phi > 0).to(found.phi.dtype))
    return {
        "planar": _total(_within(off_plane, OMEGA_LIMIT)),
        "cis": _total(_within(found.omega.abs(), math.pi / 2)),
        "negative_phi": _total(1 - positive),
    }


def _folds(ca: Tensor, joined: Tensor) -> dict[str, Tensor]:
    found, num_residues = hands(ca, joined), present(ca).sum(dim=1)
    told = torch.where(found.vote == 0, torch.nan, (found.vote < 0).to(ca.dtype))
    radius = radius_of_gyration(ca) / expected_radius(num_residues)
    helical = found.right + found.left
    return {
        "right_handed": torch.stack([found.right, helical], dim=1).double(),
        "mirror_images": _total(told[:, None]),
        "clashes": torch.stack([count_clashes(ca, joined), num_residues], dim=1).double(),
        "radius": _total(radius[:, None]),
    }


def ramachandran(backbone: Tensor, joined: Tensor) -> Tensor:
    """Counts [n, 36 * 36] of residues by phi, then psi, in bins of 10 degrees from -180."""
    phi, psi, _ = torsions(backbone, joined)
    known = phi.isfinite() & psi.isfinite()
    rows, columns = (
        ((angle[known] / (2 * math.pi) + 0.5) * NUM_BINS).long().clamp(0, NUM_BINS - 1)
        for angle in (phi, psi)
    )
    counts = phi.new_zeros(len(phi), NUM_BINS**2)
    chain = known.nonzero()[:, 0]
    ones = torch.ones(len(chain), dtype=counts.dtype, device=counts.device)
    return counts.index_put_((chain, rows * NUM_BINS + columns), ones, accumulate=True)


def jensen_shannon(a: Tensor, b: Tensor) -> float:
    """Divergence of two histograms of counts, in bits: 0 if alike, 1 if they have nothing in
    common."""
    p, q = a.double() / a.sum(), b.double() / b.sum()
    middle = (p + q) / 2

    def to_middle(part: Tensor) -> Tensor:
        return torch.special.xlogy(part, part / middle.clamp(min=1e-300)).sum()

    return float((to_middle(p) + to_middle(q)) / (2 * math.log(2)))
