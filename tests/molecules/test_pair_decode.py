"""Distances give back the points they are of, with the right hand; what cannot be is said."""

from pathlib import Path

import pytest
import torch
from ideal_backbones import helix, mirrored, strand
from rawdiff_molecules.geometry import CA, superposed_rmsd, virtual_cb
from rawdiff_molecules.pair_decode import (
    Decoded,
    decode,
    embed,
    refine,
    shortest_paths,
    symmetric,
)
from rawdiff_molecules.pair_geometry import omega, pair_maps
from rawdiff_molecules.peptide import neighbours
from real_chains import RealChain, real_chains
from torch import Tensor


def bonds(maps: Tensor) -> Tensor:
    return torch.ones(len(maps), maps.shape[-1] - 1, dtype=torch.bool)


def padded_maps(chains: list[RealChain]) -> tuple[Tensor, Tensor]:
    """Maps [n, 3, L, L] and which residues are joined [n, L - 1]."""
    length = max(len(chain.index) for chain in chains)
    maps = torch.full((len(chains), 3, length, length), torch.nan)
    index = torch.full((len(chains), length), torch.nan)
    for own, at, chain in zip(maps, index, chains, strict=True):
        num = len(chain.index)
        own[:, :num, :num] = pair_maps(chain.backbone).float()
        at[:num] = chain.index
    return maps, neighbours(index)


def far(found: list[Decoded], chains: list[RealChain]) -> Tensor:
    """Root mean square distance [n] after superposition without reflection."""
    return torch.stack(
        [
            superposed_rmsd(own.ca[: len(chain.index)], chain.backbone[:, CA])
            for own, chain in zip(found, chains, strict=True)
        ]
    )


def test_maps_are_symmetric_and_do_not_change_when_a_chain_is_moved() -> None:
    backbone = helix(12)
    maps = pair_maps(backbone)
    assert torch.equal(maps.nan_to_num(9), maps.mT.nan_to_num(9))
    assert (maps[0].diagonal() == 0).all()
    assert maps[1:].diagonal(dim1=1, dim2=2).isnan().all()
    moved = backbone[..., [1, 2, 0]] + 100
    assert torch.allclose(pair_maps(moved).nan_to_num(9), maps.nan_to_num(9), atol=1e-9)


def test_only_the_sine_of_omega_tells_a_mirror_image() -> None:
    """Of side chains that are mirrored too, as those of D-amino acids are."""
    backbone = helix(12)
    cb, flip = virtual_cb(backbone), torch.tensor([1, 1, -1])
    right, wrong = omega(backbone[:, CA], cb), omega(backbone[:, CA] * flip, cb * flip)
    assert torch.allclose(right.nan_to_num(0), -wrong.nan_to_num(0))


def test_all_distances_give_the_points_back() -> None:
    maps = pair_maps(torch.stack([helix(30), strand(30)]))
    for own, backbone in zip(decode(maps, bonds(maps)), (helix(30), strand(30)), strict=True):
        assert superposed_rmsd(own.ca, backbone[:, CA]) < 1e-6
        assert own.stress < 1e-6


@pytest.mark.parametrize("make", [helix, strand])
def test_the_hand_is_told_by_the_shape_even_of_distances_of_a_mirror_image(make) -> None:
    maps = pair_maps(mirrored(make(24)))[None, :1]
    (own,) = decode(maps, bonds(maps))
    assert own.shape_vote > 0
    assert superposed_rmsd(own.ca, make(24)[:, CA]) < 1e-6


def test_omega_tells_the_hand_where_the_shape_does_not(shared: Path) -> None:
    """Residues that are not joined have no helices that could tell."""
    chains = real_chains(shared, 60)[:6]
    maps, joined = padded_maps(chains)
    found = decode(maps, torch.zeros_like(joined))
    assert all(own.shape_vote == 0 for own in found)
    assert far(found, chains).max() < 0.01


def test_missing_distances_are_the_shortest_paths() -> None:
    line = torch.arange(5.0).double()
    whole = (line[:, None] - line).abs()[None]
    gaps = torch.where(whole > 1, torch.nan, whole)
    assert torch.allclose(shortest_paths(gaps), whole)
    gaps[0, 2] = gaps[0, :, 2] = torch.nan
    found = shortest_paths(gaps)
    assert found[0, 2].isnan().all()
    assert found[0, 0, 4].isinf()


def test_both_triangles_are_averaged_and_one_stands_for_the_other() -> None:
    a = torch.tensor([[[5.0, 3, torch.nan], [1, 0, 2], [4, 2, 0]]]).double()
    assert symmetric(a).tolist() == [[[0, 2, 4], [2, 0, 2], [4, 2, 0]]]


def test_embedding_is_exact_and_refining_mends_a_bad_start() -> None:
    points = helix(20)[None, :, CA]
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    found = embed(distances)
    assert torch.allclose(torch.cdist(found, found), distances, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    start = points + torch.randn(points.shape, generator=generator, dtype=torch.float64)
    mended = refine(start, distances)
    assert superposed_rmsd(mended, points).item() < 1e-3 < superposed_rmsd(start, points).item()


def test_distances_of_real_chains_give_their_coordinates_back(shared: Path) -> None:
    chains = [chain for chain in real_chains(shared, 40) if len(chain.index) < 200]
    maps, joined = padded_maps(chains)
    exact = far(decode(maps[:, :1], joined), chains)
    assert exact.median() < 0.01
    assert (exact < 0.1).double().mean() > 0.9
    noise = 0.5 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    noisy = far(decode(maps + noise, joined), chains)
    assert noisy.median() < 0.2
    assert noisy.max() < 1
    capped = maps[:, :1].clone()
    capped[capped > 20] = torch.nan
    assert far(decode(capped, joined), chains).median() < 0.05


def test_maps_that_are_of_no_chain_are_kept_with_the_reason() -> None:
    maps = torch.full((3, 1, 10, 10), torch.nan)
    maps[0, 0, :3, :3] = 3.8
    maps[1, 0, :5, :5] = maps[1, 0, 5:, 5:] = 3.8
    maps[2] = pair_maps(helix(10))[:1]
    few, parts, good = decode(maps, bonds(maps))
    assert few.failure == "3 residues have distances; 4 are needed"
    assert "one part of the residues to another" in (parts.failure or "")
    assert few.ca.isnan().all()
    assert good.failure is None
    assert superposed_rmsd(good.ca, helix(10)[:, CA]) < 1e-5
