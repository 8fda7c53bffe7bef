"""Maps of pairs from files to files: what samples hold, where patches lie, what is written."""

import json
import pickle
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from chain_files import write_chains
from rawdiff_molecules.chain_template import ChainTemplate
from rawdiff_molecules.pair_geometry import pair_maps
from rawdiff_molecules.pair_maps import PairMaps
from rawdiff_molecules.pair_scores import PairMapScores
from rawdiff_molecules.pair_writer import PairMapWriter
from rawdiff_molecules.pairmap2d import PairMap2dAdapter

from rawdiff.conditions import draw_conditions, real_batch
from rawdiff.data.dataset import Batch, collate
from rawdiff.data.loading import Subset
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis
from rawdiff.testing import check_adapter

LENGTHS = [9, 12, 14, 16, 20]
MISSING = 3  # the fourth residue is not in the files


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chains")
    source = PairMaps(path=str(write_chains(folder / "pdb", LENGTHS)), max_length=16)
    return source.pack(folder / "packed", lambda done, total: None)


@pytest.fixture(scope="module")
def data(packed) -> PairMaps:
    return PairMaps(path=str(packed), min_length=10, max_length=16)


def batch(data: PairMaps) -> Batch:
    return real_batch(Subset(data, range(len(data))), range(len(data)))


def test_the_adapter_keeps_its_promises() -> None:
    check_adapter(PairMap2dAdapter(patch_size=4), (3, 16, 16))
    check_adapter(PairMap2dAdapter(patch_size=5), (1, 16, 16))


def test_maps_are_those_of_the_stored_backbones(data) -> None:
    found = batch(data)
    assert found.x.shape == (3, *data.info.shape)
    for maps, chain in zip(found.x, data.entries.chains([1, 2, 3]), strict=True):
        num = len(chain.index)
        wanted = pair_maps(torch.from_numpy(chain.backbone).double())
        wanted[0] = torch.log(1 + wanted[0])
        assert torch.allclose(maps[:, :num, :num].double(), wanted, atol=2e-3, equal_nan=True)
        assert maps[:, num:].isnan().all()
        assert maps[:, :, num:].isnan().all()
    assert found.scalars is not None
    assert found.scalars.flatten().tolist() == [11, 13, 15]


def test_linear_and_logarithmic_maps_are_of_the_same_distances(packed, data, tmp_path) -> None:
    linear = PairMaps(path=str(packed), min_length=10, max_length=16, distance="linear")
    assert linear.info.units[0] == "angstrom"
    for name, own in (("linear", linear), ("log", data)):
        PairMapWriter().write(batch(own).x.numpy(), tmp_path / name, info=own.info)
    one, other = (
        gemmi.read_structure(str(tmp_path / name / "000001.cif"))[0][0]
        for name in ("linear", "log")
    )
    for a, b in zip(one, other, strict=True):
        assert a["CA"][0].pos.dist(b["CA"][0].pos) < 1e-2


def test_distances_alone_are_the_first_channel(packed, data) -> None:
    alone = PairMaps(path=str(packed), min_length=10, max_length=16, omega=False)
    assert alone.info.channels == ("log_distance",)
    assert torch.equal(batch(alone).x.nan_to_num(9), batch(data).x[:, :1].nan_to_num(9))


def test_both_sides_of_a_patch_lie_where_its_residues_stand(data) -> None:
    found = batch(data)
    assert found.place is not None
    positions = PairMap2dAdapter(patch_size=4).sample_positions(found.place, ["residue"])
    grid = positions[2].unflatten(0, (4, 4))
    along = [
        (0 + 1 + 2 + 4) / 16,
        (5 + 6 + 7 + 8) / 16,
        (9 + 10 + 11 + 12) / 16,
        (13 + 14 + 15) / 12,
    ]
    assert torch.allclose(grid[:, 1, 0], torch.tensor(along))
    assert torch.equal(grid[..., 0], grid[..., 1].T)
    assert positions.isfinite().all()


def test_a_dataset_travels_to_other_processes(data) -> None:
    there = pickle.loads(pickle.dumps(data))
    assert np.array_equal(there[1].x, data[1].x, equal_nan=True)


def test_what_cannot_be_chosen_is_an_error(packed) -> None:
    with pytest.raises(UserError, match="None of the 5 chains"):
        len(PairMaps(path=str(packed), min_length=100, max_length=200))
    with pytest.raises(ValueError, match="above max_length"):
        PairMaps(path="a", min_length=20, max_length=10)
    with pytest.raises(ValueError, match="one chain"):
        PairMaps(path="a", max_length=10, chains="together")


def test_maps_are_written_as_arrays_and_as_chains_with_their_gaps(data, tmp_path) -> None:
    found = batch(data)
    x = found.x.numpy().copy()
    x[2] = np.nan
    x[2, 0, :3, :3] = 3.8
    writer = PairMapWriter()
    assert found.place is not None
    writer.write(x, tmp_path, info=data.info, place=found.place.numpy())
    chain = gemmi.read_structure(str(tmp_path / "000000.pdb"))[0][0]
    numbers = [residue.seqid.num for residue in chain]
    assert numbers == [n + 1 for n in range(12) if n != MISSING]
    places = torch.tensor([residue["CA"][0].pos.tolist() for residue in chain])
    distances = np.exp(x[0, 0, :11, :11]) - 1
    assert np.allclose(torch.cdist(places, places), distances, atol=0.01)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report[0]["stress"] < 1e-3
    assert report[2]["failure"] == "3 residues have distances; 4 are needed"
    with np.load(tmp_path / "samples-000000.npz") as arrays:
        assert np.array_equal(arrays["x"], x, equal_nan=True)
    assert writer.draw(x, info=data.info).width > 600
    writer.join([tmp_path, tmp_path], tmp_path / "whole", info=data.info)
    assert json.loads((tmp_path / "whole" / "report.json").read_text()) == 2 * report


def test_scores_of_real_maps_are_perfect_and_those_of_noisy_ones_are_not(data) -> None:
    found, evaluator = batch(data), PairMapScores()
    basis = Basis(data.info, None, torch.zeros(3), torch.ones(3))
    assert evaluator.obstacle(basis) is None
    real = evaluator.features(found.x, basis, found.place)
    scores = evaluator.score(real, real, basis)
    assert set(scores) == set(evaluator.score_keys(data.info))
    for share in ("decoded", "ca_ca", "right_handed", "hand"):
        assert scores[share] == 1, share
    for none in ("asymmetry", "triangles", "sse"):
        assert scores[none] == 0, none
    assert scores["stress"] < 1e-4
    noise = 0.2 * torch.randn(found.x.shape, generator=torch.Generator().manual_seed(0))
    worse = evaluator.score(evaluator.features(found.x + noise, basis, found.place), real, basis)
    assert worse["ca_ca"] < 0.5
    for key in ("stress", "asymmetry", "triangles"):
        assert worse[key] > 0.01, key


def test_a_map_of_a_triangle_that_cannot_be_drawn_is_noticed(data) -> None:
    basis = Basis(data.info, None, torch.zeros(3), torch.ones(3))
    x = batch(data).x[:1].clone()
    x[0, 0, 0, 10] = x[0, 0, 10, 0] = np.log(91)
    found = PairMapScores().features(x, basis)
    assert found["triangles"][0, 0] > 0


def test_rendering_leaves_what_is_stored_untouched(data) -> None:
    samples = data.get_batch([0, 1])
    stored = collate(samples, [0, 1])
    before = stored.x.clone()
    data.render(stored)
    assert torch.equal(stored.x.nan_to_num(9), before.nan_to_num(9))


def test_new_maps_have_the_wanted_lengths_or_those_of_real_ones(data) -> None:
    real = Subset(data, range(len(data)))
    wanted = draw_conditions(
        data.info, 3, None, lambda: real, template=ChainTemplate(lengths=(5, 9))
    )
    assert wanted.there is not None
    assert wanted.place is not None
    assert wanted.there[:, 0].sum((1, 2)).tolist() == [25, 81, 25]
    positions = PairMap2dAdapter(patch_size=2).sample_positions(wanted.place, ["residue"])
    assert positions[1, :, 1][:4].tolist() == [0.25, 1.25, 2.25, 3.25]
    alike = draw_conditions(data.info, 4, None, lambda: real, template=ChainTemplate())
    assert alike.scalars is not None
    assert set(alike.scalars.flatten().tolist()) == {11, 13, 15}
    with pytest.raises(UserError, match="20 residues are wanted"):
        draw_conditions(data.info, 1, None, lambda: real, template=ChainTemplate(lengths=(20,)))
