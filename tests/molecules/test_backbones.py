"""Backbones as samples: sizes, places, motions; from files to files with a motif that stays."""

import json
import pickle
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
import yaml
from chain_files import HELIX, STRAND, write_chain, write_chains
from rawdiff_molecules.backbones import Backbones
from rawdiff_molecules.residue1d import Residue1dAdapter
from rawdiff_molecules.residues import Residues

from rawdiff import philox
from rawdiff.assemble import open_data
from rawdiff.conditions import real_batch
from rawdiff.data.dataset import collate
from rawdiff.errors import UserError
from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.plugins import build_plugin
from rawdiff.recipe_file import load_recipe
from rawdiff.results import evaluate_run, sample_run
from rawdiff.run import load
from rawdiff.testing import check_adapter
from rawdiff.train.start import train

LENGTHS = [9, 12, 14, 15, 16, 20, 11, 13, 15, 12]


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chains")
    source = Backbones(path=str(write_chains(folder / "pdb", LENGTHS)), max_length=16)
    return source.pack(folder / "packed", lambda done, total: None)


def quiet(text: str) -> None: ...


def recipe_file(folder: Path, packed: Path, **data) -> Path:
    recipe = {
        "run_dir": str(folder / "run"),
        "data": {"name": "backbones", "path": str(packed), "max_length": 16, **data},
        "holdout": {"fraction": 0.3},
        "standardization": {"mode": "fixed", "mean": 0, "std": 6},
        "adapter": {"name": "residue1d", "num_residues": 2},
        "model": {"width": 32, "depth": 2, "heads": 2, "in_context_len": 0},
        "train": {"num_steps": 12, "batch_size": 4, "device": "cpu", "tensorboard": False},
        "sample": {"num_steps": 6, "num_samples": 5, "batch_size": 2},
        "evaluate": {"evaluators": {"backbones": {"num_samples": 3, "num_compared": 2}}},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def run(packed, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(load_recipe(recipe_file(folder, packed), []), quiet)
    return folder / "run"


def test_the_adapter_keeps_its_promises() -> None:
    check_adapter(Residue1dAdapter(), (12, 64))
    check_adapter(Residue1dAdapter(num_residues=5), (9, 64))
    check_adapter(Residue1dAdapter(), (12, 64), {"chain": (0.0,)})


def test_gaps_in_the_numbering_are_gaps_between_patches() -> None:
    index = np.array([0, 1, 2, 7, 8, 9])
    residues = Residues.plain(6)
    place = torch.from_numpy(Residues(index, *list(vars(residues).values())[1:]).place(8))[None]
    names = Backbones(path="p", max_length=8).info.place_names
    one = Residue1dAdapter().sample_positions(place, names)
    assert one[0, :, 0].tolist() == [0, 1, 2, 7, 8, 9, 0, 0]
    two = Residue1dAdapter(num_residues=2).sample_positions(place, names)
    assert two[0, :, 0].tolist() == [0.25, 2.25, 4.25, 0]


def test_chains_are_chosen_by_their_length_and_centred(packed) -> None:
    data = Backbones(path=str(packed), min_length=11, max_length=16)
    assert len(data) == 8 - 1  # one residue of each is missing in the file
    for sample in data.get_batch(range(len(data))):
        length = int(sample.scalars[0])
        assert 11 <= length <= 16
        assert np.isnan(sample.x[:, length:]).all()
        assert not np.isnan(sample.x[:, :length]).any()
        points = sample.x[:, :length].reshape(4, 3, length)
        assert np.abs(points.mean((0, 2))).max() < 1e-5
    with pytest.raises(UserError, match=r"None of the 10 chains .* has 200 to 300 residues"):
        len(Backbones(path=str(packed), min_length=200, max_length=300))
    with pytest.raises(ValueError, match="above max_length"):
        Backbones(path=str(packed), min_length=20, max_length=10)


def test_chains_are_classes_by_their_secondary_structure(tmp_path) -> None:
    folder = tmp_path / "pdb"
    folder.mkdir()
    for name, residue in (("a_helix", HELIX), ("b_strand", STRAND)):
        write_chain(folder / f"{name}.pdb", 24, of=(residue, residue))
    write_chain(folder / "c_both.pdb", 24)
    data = Backbones(path=str(folder), max_length=24, label="fold")
    packed = data.pack(tmp_path / "packed", lambda done, total: None)
    data = Backbones(path=str(packed), max_length=24, label="fold")
    assert [data.info.class_names[s.label] for s in data.get_batch([0, 1, 2])] == [
        "alpha",
        "beta",
        "alpha_beta",
    ]


def test_longer_chains_are_left_out_or_cut_into_windows(packed) -> None:
    left_out = Backbones(path=str(packed), max_length=10)
    windows = Backbones(path=str(packed), max_length=10, longer="windows")
    assert len(left_out) == 2
    assert len(windows) > len(left_out)
    whole = windows.entries.chains([int(windows._stretches[-1][0])])[0]
    start = int(windows._stretches[-1][1])
    assert start + 10 == len(whole.numbers)  # the end of the chain is in a window, too
    numbers = Residues.read(windows[len(windows) - 1].place, windows.info.place_names).numbers
    assert numbers.tolist() == whole.numbers[start : start + 10].tolist()


def test_the_chains_of_a_complex_are_an_axis_of_their_own(tmp_path) -> None:
    one, other = tmp_path / "one.pdb", tmp_path / "other.pdb"
    write_chain(one, 4, first=11)
    write_chain(other, 5, first=3)
    second = other.read_text().replace("ALA A", "ALA B")
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "complex.pdb").write_text(one.read_text()[:-4] + second)
    source = Backbones(path=str(tmp_path / "both"), max_length=10, chains="together")
    path = source.pack(tmp_path / "packed", lambda done, total: None)
    data = Backbones(path=str(path), max_length=10, chains="together")
    adapter, place = Residue1dAdapter(), torch.from_numpy(data[0].place)[None]
    axes = adapter.axes(data.info.shape, data.info.coordinates)
    assert [axis.name for axis in axes] == ["residue", "chain"]
    positions = adapter.sample_positions(place, data.info.place_names)[0, :9]
    assert positions[:, 1].tolist() == [0] * 4 + [1] * 5
    assert positions[:, 0].diff()[[0, 1, 2, 4, 5, 6, 7]].tolist() == [1] * 7
    chains = Residues.read(data[0].place, data.info.place_names)
    assert chains.chain_ids.tolist() == ["A"] * 4 + ["B"] * 5
    assert chains.numbers.tolist() == [11, 12, 13, 14, 3, 4, 5, 6, 7]


def test_augmentation_turns_a_copy_and_never_mirrors(packed) -> None:
    data = Backbones(path=str(packed), max_length=16)
    samples = data.get_batch([0, 1])
    before = [sample.x.copy() for sample in samples]
    batch = collate(samples, [0, 1])
    index = torch.arange(2)
    turned = data.augment(batch, lambda n: philox.uniform(0, philox.Stream.AUGMENT, index, n))
    for sample, kept in zip(samples, before, strict=True):
        assert np.array_equal(sample.x, kept, equal_nan=True)
    assert not torch.allclose(turned.x.nan_to_num(0), batch.x.nan_to_num(0), atol=0.1)
    back = data.geometry.align(turned.x, batch.x, torch.ones_like(batch.x, dtype=torch.bool))
    assert torch.allclose(back.nan_to_num(0), batch.x.nan_to_num(0), atol=1e-3)
    mirrored = batch.x * torch.tensor([1.0, 1, -1]).repeat(4)[:, None]
    laid = data.geometry.align(mirrored, batch.x, torch.ones_like(batch.x, dtype=torch.bool))
    assert float((laid - batch.x).nan_to_num(0).abs().max()) > 1


def test_a_dataset_travels_to_other_processes(packed) -> None:
    data = Backbones(path=str(packed), max_length=16)
    here = data[3]
    there = pickle.loads(pickle.dumps(data))[3]
    assert np.array_equal(here.x, there.x, equal_nan=True)


def test_new_samples_have_the_lengths_of_real_ones(run) -> None:
    target = sample_run(run, say=quiet)
    report = json.loads((target / "report.json").read_text())
    data = open_data(load(run, say=quiet).recipe)
    real = real_batch(data.real, range(len(data.real)))
    assert {line["residues"] for line in report} <= set(real.scalars.flatten().int().tolist())
    assert (target / "picture.png").is_file()
    numbers = [r.seqid.num for r in gemmi.read_structure(str(target / "000000.cif"))[0][0]]
    assert 8 not in numbers  # the residue that is missing in all files
    assert numbers[0] == 5


def test_wanted_lengths_and_a_motif_come_out_of_the_command(run, tmp_path) -> None:
    target = sample_run(
        run,
        ["sample.template.name=chains", "sample.template.lengths=[7, 12]"],
        out=tmp_path / "lengths",
        say=quiet,
    )
    report = json.loads((target / "report.json").read_text())
    assert [line["residues"] for line in report] == [7, 12, 7, 12, 7]

    motif = write_chain(tmp_path / "motif.pdb", 12, first=30)
    target = sample_run(
        run,
        [
            "sample.template.name=motif",
            f"sample.template.path={motif}",
            "sample.template.contig=2-4/A33-38/3",
        ],
        out=tmp_path / "scaffold",
        say=quiet,
    )
    given = {residue.seqid.num: residue for residue in gemmi.read_structure(str(motif))[0]["A"]}
    for number in range(5):
        chain = gemmi.read_structure(str(target / f"{number:06d}.cif"))[0][0]
        found = {residue.seqid.num: residue for residue in chain}
        assert len(found) in (11, 12, 13)
        for kept in range(33, 39):
            assert found[kept].name == "ALA"
            for atom in ("N", "CA", "C", "O"):
                moved = found[kept][atom][0].pos - given[kept][atom][0].pos
                assert moved.length() < 1e-4
        others = [residue for n, residue in found.items() if n not in range(33, 39)]
        assert {residue.name for residue in others} == {"GLY"}


def test_the_way_to_a_sample_is_a_file_of_models(run, tmp_path) -> None:
    target = sample_run(
        run, ["sample.num_frames=4", "sample.num_samples=3"], out=tmp_path / "way", say=quiet
    )
    way = gemmi.read_structure(str(target / "trajectory" / "000002.pdb"))
    sample = gemmi.read_structure(str(target / "000002.pdb"))
    assert len(way) == 4
    for models in zip(way[3][0], sample[0][0], strict=True):
        first, second = (residue["CA"][0].pos for residue in models)
        assert (first - second).length() == 0


def test_a_structure_is_partly_noised(run, tmp_path) -> None:
    motif = write_chain(tmp_path / "whole.pdb", 12)
    template = {"name": "motif", "path": str(motif), "keep": ""}
    model = load(run, say=quiet)
    near, far = (model.sample(4, template=template, start=start) for start in (0.95, 0.3))
    motif = build_plugin("templates", template)
    x = torch.from_numpy(motif.wanted(0, model.sampler.info, open_data).x).expand(4, -1, -1)
    everywhere = ~x.isnan()
    distance = [
        float(
            (model.sampler.patcher.geometry.align(x, drawn, everywhere) - drawn)
            .nan_to_num(0)
            .square()
            .mean()
        )
        for drawn in (near, far)
    ]
    assert distance[0] < distance[1]


def test_a_model_of_different_sizes_asks_what_samples_are_to_be_like(run) -> None:
    with pytest.raises(UserError, match="differ in size or place"):
        load(run, say=quiet).sample(2)


def test_scores_stand_beside_those_of_real_chains(run) -> None:
    report = evaluate_run(run, say=quiet)
    assert report.scores["backbones/ca_ca"][ORACLE] > 0.99
    assert report.scores["backbones/ca_ca"][GENERATED] < 0.9


def test_pictures_and_scores_are_of_samples_like_real_ones(packed, run, tmp_path) -> None:
    """Whatever template new samples are to follow."""
    motif = write_chain(tmp_path / "whole.pdb", 12)
    template = ["name=motif", f"path={motif}", 'keep=""']
    changes = ["train.picture_every=6", "sample.start=0.5"]
    changes += [f"sample.template.{change}" for change in template]
    train(load_recipe(recipe_file(tmp_path, packed), changes), quiet)
    assert len(list((tmp_path / "run" / "pictures").glob("*.png"))) == 2
    scores = evaluate_run(tmp_path / "run", say=quiet).scores
    assert scores == evaluate_run(run, say=quiet).scores


def test_what_is_told_goes_before_what_the_template_says(run) -> None:
    model = load(run, say=quiet)
    template = {"name": "chains", "lengths": [9]}
    usual, same, other = (
        model.sample(1, template=template, scalars=scalars).nan_to_num()
        for scalars in (None, torch.tensor([[9.0]]), torch.tensor([[14.0]]))
    )
    assert torch.equal(same, usual)
    assert not torch.equal(other, usual)
