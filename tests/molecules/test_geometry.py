"""Angles, hands and superposition by truths of ideal backbones."""

import math

import pytest
import torch
from ideal_backbones import Residue, build, helix, mirrored, strand
from rawdiff_molecules.geometry import (
    CA,
    C,
    N,
    as_backbone,
    as_sample,
    dihedral,
    radius_of_gyration,
    superposed_rmsd,
    virtual_cb,
)
from rawdiff_molecules.handedness import hands
from rawdiff_molecules.peptide import (
    ANGLES,
    BONDS,
    bond_angles,
    bond_lengths,
    count_clashes,
    neighbours,
    torsions,
)
from torch import Tensor


def joined(backbone: Tensor) -> Tensor:
    return torch.ones(len(backbone) - 1, dtype=torch.bool)


def turned(points: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator).double())[0]
    return points @ (rotation * torch.linalg.det(rotation)) + torch.tensor([3.0, -200, 7])


def test_torsions_of_a_backbone_are_those_it_was_built_with() -> None:
    residues = [Residue(-60 - i, 10 * i, 180 - i) for i in range(12)]
    found = torsions(build(residues), joined(build(residues)))
    degrees = [torch.rad2deg(part) for part in found]
    wanted = torch.tensor([[r.phi, r.psi, r.omega] for r in residues], dtype=torch.float64).T
    for ours, theirs in zip(degrees, wanted, strict=True):
        known = ~ours.isnan()
        assert known.sum() == 11
        turns = (ours - theirs)[known] / 360
        assert torch.allclose(turns, turns.round(), atol=1e-9)


def test_lengths_and_angles_are_those_it_was_built_with() -> None:
    backbone = helix(8)
    for found, wanted in (
        (bond_lengths(backbone, joined(backbone)), BONDS),
        (bond_angles(backbone, joined(backbone)), ANGLES),
    ):
        for name, value in wanted.items():
            assert torch.allclose(found[name], torch.full_like(found[name], value), atol=1e-6), name


def test_a_gap_in_the_index_is_no_bond() -> None:
    index, chain = torch.tensor([1, 2, 4, 5, 6]), torch.tensor([0, 0, 0, 0, 1])
    assert neighbours(index).tolist() == [True, False, True, True]
    assert neighbours(index, chain).tolist() == [True, False, True, False]
    backbone = helix(5)
    found = torsions(backbone, neighbours(index))
    assert found.phi.isnan().tolist() == [True, False, True, False, False]
    assert bond_lengths(backbone, neighbours(index))["C-N"].isnan().tolist() == [0, 1, 0, 0]


def test_the_mirror_image_of_a_dihedral_has_the_opposite_sign() -> None:
    a, b, c, d = (torch.tensor(p).double() for p in ([1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1.0]))
    assert math.isclose(float(dihedral(a, b, c, d)), math.pi / 2)
    flip = torch.tensor([1, -1, 1])
    assert math.isclose(float(dihedral(a * flip, b * flip, c * flip, d * flip)), -math.pi / 2)


def test_a_moved_backbone_lies_upon_itself_but_its_mirror_image_does_not() -> None:
    atoms = helix(20).flatten(0, 1)
    assert superposed_rmsd(turned(atoms), atoms) < 1e-9
    assert superposed_rmsd(turned(mirrored(atoms)), atoms) > 1
    with_gap = turned(atoms)
    with_gap[7] = torch.nan
    assert superposed_rmsd(with_gap, atoms) < 1e-9


@pytest.mark.parametrize("make", [helix, strand])
def test_hands_are_told_from_their_mirror_image(make) -> None:
    backbone = make(24)
    right, wrong = (
        hands(points[:, CA], joined(backbone)) for points in (backbone, mirrored(backbone))
    )
    assert right.vote > 5
    assert wrong.vote == -right.vote
    assert hands(turned(backbone)[:, CA], joined(backbone)).vote == right.vote
    assert (make is helix) == (right.right == 21)


def test_a_virtual_cb_makes_an_l_amino_acid() -> None:
    backbone = helix(6)
    cb = virtual_cb(backbone)
    n, ca, c = backbone[:, N], backbone[:, CA], backbone[:, C]
    assert torch.allclose((cb - ca).norm(dim=-1), torch.tensor(1.53).double(), atol=0.02)
    volume = torch.linalg.cross(n - ca, c - ca).mul(cb - ca).sum(-1)
    assert (volume > 0).all()  # of a D-amino acid it is negative


def test_clashes_are_pairs_that_are_near_and_not_bonded() -> None:
    ca = torch.arange(6).double()[:, None] * torch.tensor([3.8, 0, 0])
    bonds = torch.ones(5, dtype=torch.bool)
    assert count_clashes(ca, bonds) == 0
    ca[5] = ca[0] + torch.tensor([0, 2.9, 0])
    assert count_clashes(ca, bonds) == 1
    close = torch.arange(3).double()[:, None] * torch.tensor([2.9, 0, 0])
    assert count_clashes(close, bonds[:2]) == 0  # cis neighbours
    assert count_clashes(close, torch.tensor([True, False])) == 1


def test_radius_of_gyration_of_a_circle_is_its_radius_and_missing_points_do_not_count() -> None:
    angle = torch.arange(8).double() / 8 * 2 * math.pi
    circle = torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=-1) * 7 + 100
    assert math.isclose(float(radius_of_gyration(circle)), 7)
    with_gap = torch.cat([circle, torch.full((3, 3), torch.nan)])
    assert math.isclose(float(radius_of_gyration(with_gap)), 7)


def test_samples_hold_atoms_as_channels_and_give_them_back() -> None:
    backbone = helix(5)[None]
    x = as_sample(backbone)
    assert x.shape == (1, 12, 5)
    assert torch.equal(x[0, 3:6, 2], backbone[0, 2, CA])
    assert torch.equal(as_backbone(x), backbone)
