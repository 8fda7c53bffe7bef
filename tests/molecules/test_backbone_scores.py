"""Scores of backbones: truths of ideal ones, known figures of real ones, mirrors and noise."""

from pathlib import Path

import pytest
import torch
from ideal_backbones import helix, strand
from rawdiff_molecules.backbone_measures import jensen_shannon
from rawdiff_molecules.backbone_scores import Backbones, backbone_features
from rawdiff_molecules.folds import atoms_of, likeness, num_clusters, tm_score
from rawdiff_molecules.geometry import as_sample
from real_chains import as_batch, real_chains
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.evaluate.evaluator import Basis, Features

FEW = Backbones(num_compared=2, num_candidates=1)
MIRROR = torch.tensor([1, 1, -1]).repeat(4)[:, None]


def info(length: int, place_names: tuple[str, ...] = ()) -> DataInfo:
    channels = tuple(f"{atom}.{axis}" for atom in ("N", "CA", "C", "O") for axis in "xyz")
    return DataInfo((12, length), channels, place_names=place_names, sizes_vary=True)


def basis(length: int, place_names: tuple[str, ...] = ()) -> Basis:
    return Basis(info(length, place_names), None, torch.zeros(12), torch.ones(12))


def scores(ours: Features, theirs: Features, evaluator: Backbones = FEW) -> dict[str, float]:
    return evaluator.score(ours, theirs, basis(0))


def sample(backbone: Tensor, length: int = 40) -> Tensor:
    """[12, length], filled with NaN."""
    x = torch.full((12, length), torch.nan)
    x[:, : len(backbone)] = as_sample(backbone)
    return x


def ideal() -> Tensor:
    return torch.stack([sample(helix(30)), sample(strand(40))])


def test_an_ideal_helix_and_strand_have_ideal_scores() -> None:
    features = backbone_features(ideal())
    found = scores(features, features)
    for share in ("ca_ca", "bonds", "angles", "planar", "negative_phi", "right_handed"):
        assert found[share] == 1, share
    for none in ("cis", "clashes", "mirror_images", "ramachandran", "sse"):
        assert found[none] == 0, none
    assert found["bond_error"] < 1e-5
    assert found["angle_error"] < 1e-3
    assert found["ca_ca_error"] < 0.02
    assert found["helix"] == pytest.approx(0.5, abs=0.1)
    assert found["strand"] == pytest.approx(0.5, abs=0.1)
    assert set(found) == set(FEW.score_keys(info(40)))


def test_the_mirror_image_of_a_backbone_is_noticed() -> None:
    features, wrong = backbone_features(ideal()), backbone_features(ideal() * MIRROR)
    found = scores(wrong, features)
    assert found["mirror_images"] == 1
    assert found["right_handed"] == found["negative_phi"] == 0
    assert found["ramachandran"] == pytest.approx(1)


def test_what_follows_a_gap_in_the_index_is_no_neighbour() -> None:
    x, place = ideal()[:1], torch.arange(40.0).repeat(1, 1, 1)
    moved = x.clone()
    moved[:, :, 15:] += 5.0
    place[:, :, 15:] += 3
    for given, at, share in ((moved, None, 28 / 29), (moved, place, 1.0)):
        features = FEW.features(given, basis(40, ("residue",)), at)
        assert scores(features, features)["ca_ca"] == pytest.approx(share)


def test_missing_atoms_are_left_out() -> None:
    x = ideal()
    x[0, 9:, 4] = torch.nan  # an O
    x[1, 3:6, 7] = torch.nan  # a CA
    found = scores(backbone_features(x), backbone_features(ideal()))
    assert found["bonds"] == found["ca_ca"] == found["angles"] == 1


def test_scores_of_a_single_chain_and_of_noise_can_be_had() -> None:
    noise = torch.randn(3, 12, 40) * 10
    noise[2] = torch.nan
    found = scores(backbone_features(noise), backbone_features(ideal()))
    assert found["ca_ca"] < 0.2
    assert found["mean_tm"] < 0.5


def test_tm_score_is_one_for_a_moved_copy_and_low_for_another_fold(shared: Path) -> None:
    chains = [chain for chain in real_chains(shared, 60) if len(chain.index) > 80]
    atoms = [atoms_of(c.backbone.numpy(), c.index.numpy()) for c in chains[:3]]
    moved = atoms[0].copy()
    moved.coord = moved.coord[:, [1, 2, 0]] + 50  # turned by a third around the diagonal
    assert tm_score(atoms[0], moved, len(moved) // 4) > 0.99
    found = likeness([atoms[0], moved, atoms[1]])
    assert found[0, 2] < 0.5 < found[0, 1]
    assert num_clusters(found) == 2


def test_real_chains_have_the_known_scores_and_noise_or_a_mirror_makes_them_worse(
    shared: Path,
) -> None:
    x, index = as_batch(real_chains(shared, 6))
    half = backbone_features(x[1::2], index[1::2])
    real = scores(backbone_features(x[::2], index[::2]), half)
    assert real["ca_ca"] > 0.98
    assert real["bonds"] > 0.99
    assert real["mirror_images"] < 0.03
    assert real["negative_phi"] == pytest.approx(0.93, abs=0.02)
    assert real["clashes"] < 0.01
    assert 1.0 < real["radius"] < 1.3
    assert real["ramachandran"] < 0.05
    noise = torch.randn(x[::2].shape, generator=torch.Generator().manual_seed(0))
    noisy = scores(backbone_features(x[::2] + 0.2 * noise, index[::2]), half)
    for key in ("bond_error", "angle_error", "ca_ca_error", "ramachandran", "sse"):
        assert noisy[key] > 1.2 * real[key], key
    wrong = scores(backbone_features(x[::2] * MIRROR, index[::2]), half)
    assert wrong["mirror_images"] > 0.97
    assert wrong["ramachandran"] > 0.5


def test_divergence_of_histograms_is_between_nothing_and_one_bit() -> None:
    a, b = torch.tensor([4.0, 0, 1]), torch.tensor([0.0, 3, 0])
    assert jensen_shannon(a, 2 * a) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(a, b) == pytest.approx(1)


def test_of_ca_alone_there_are_the_scores_that_need_no_more() -> None:
    only_ca = DataInfo((3, 40), ("CA.x", "CA.y", "CA.z"))
    seen = Basis(only_ca, None, torch.zeros(3), torch.ones(3))
    assert FEW.obstacle(seen) is None
    features = FEW.features(ideal()[:, 3:6], seen)
    found = FEW.score(features, features, seen)
    assert found["ca_ca"] == found["right_handed"] == 1
    assert found["mirror_images"] == 0
    assert not found.keys() & {"bonds", "angles", "planar", "ramachandran", "mean_tm"}


def test_samples_of_another_kind_have_no_score() -> None:
    assert FEW.obstacle(basis(40)) is None
    other = Basis(DataInfo((3, 64, 64), ("r", "g", "b")), None, torch.zeros(3), torch.ones(3))
    assert "[3, 64, 64]" in (FEW.obstacle(other) or "")
