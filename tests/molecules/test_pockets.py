"""Pockets: the protein around a ligand is what the network is told of it."""

import gzip
import pickle
import shutil
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from pocket_files import AT, CYSTEINE, LIGAND, PROTEIN, prepared, residue, write_ligands
from pocket_files import write_proteins as proteins_of
from pydantic import ValidationError
from rawdiff_molecules.molecules import Molecules

from rawdiff.assemble import PACKED_FOLDER, packed_or_raw
from rawdiff.conditions import conditions_of, real_batch
from rawdiff.data.dataset import collate
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import measure
from rawdiff.errors import UserError

HEAVY = np.array([xyz for name, *xyz in CYSTEINE if name != "H"])
MIDDLE = np.mean([xyz for _, *xyz in LIGAND], axis=0)


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ligands(tmp_path) -> Path:
    return write_ligands(tmp_path / "ligands", ["a", "b", "c"])


@pytest.fixture
def proteins(tmp_path) -> Path:
    return proteins_of(tmp_path / "proteins", {"a": PROTEIN, "b": PROTEIN[:12], "c": PROTEIN[6:]})


def batch_of(data: Molecules):
    return collate(Subset(data, range(len(data))).get_batch(range(len(data))), range(len(data)))


def draw_of(seed, size):
    generator = torch.Generator().manual_seed(seed)
    return lambda n: torch.rand(size, n, generator=generator)


def test_the_context_is_the_protein_alone_in_the_ligand_s_own_coordinates(ligands, tmp_path):
    others = [
        *residue((-3, -3, 0), 80, "HOH", "HETATM"),
        *residue((0, 0, 0), 81, "LIG", "HETATM"),
        *residue((200, 0, 0), 300),
    ]
    folder = proteins_of(tmp_path / "p", {"b": [*residue((4, 0, 0)), *others]})
    data = prepared(ligands, folder)
    sample = data[0]
    assert sample.context.shape == data.info.stored_context_shape == (5, 4)
    np.testing.assert_allclose(sample.context[:, :3], HEAVY - MIDDLE + (4, 0, 0), atol=2e-3)
    assert sample.context[:, 3].tolist() == [1, 0, 0, 2, 3]  # N C C O S among C N O S
    np.testing.assert_allclose(sample.x[:, :3].mean(0), 0, atol=1e-5)


def test_other_elements_are_no_context_and_channels_follow_the_setting(ligands, proteins):
    data = prepared(ligands, proteins, pocket_elements=["S", "N"])
    assert sorted(data[0].context[:, 3][:6].tolist()) == [0, 0, 0, 1, 1, 1]
    assert np.isnan(data[0].context[6:]).all()
    assert data.info.num_context_channels == 2


def test_a_pocket_turns_and_moves_with_its_ligand(tmp_path):
    names = [f"m{i}" for i in range(40)]
    folder = proteins_of(tmp_path / "p", dict.fromkeys(names, PROTEIN))
    batch = batch_of(prepared(write_ligands(tmp_path / "l", names), folder))
    data = prepared(tmp_path / "l" / "ligands.xyz", folder)
    moved = data.augment(batch, draw_of(0, len(batch)))

    def between(x):
        return torch.cdist(x.x[..., :3], x.context[..., :3])

    torch.testing.assert_close(between(moved), between(batch), atol=1e-4, rtol=0)
    assert torch.equal(moved.context[..., 3], batch.context[..., 3])
    shifts = moved.x[..., :3].mean(1).abs()
    assert 0.8 < float(shifts.max()) <= 1.0001
    corners = (moved.context[:, 0, :3] > 0).tolist()
    assert len({tuple(row) for row in corners}) >= 4


def test_what_is_not_to_be_turned_is_only_moved(ligands, proteins):
    data = prepared(ligands, proteins, orientation="none", max_shift=0.3)
    batch = batch_of(data)
    moved = data.augment(batch, draw_of(0, 3))
    shift = moved.x[:, :1, :3] - batch.x[:, :1, :3]
    assert 0 < float(shift.abs().max()) <= 0.3001
    torch.testing.assert_close(moved.x[..., :3], batch.x[..., :3] + shift)
    there = ~batch.context[..., 0].isnan()
    expected = (batch.context[..., :3] + shift)[there]
    torch.testing.assert_close(moved.context[..., :3][there], expected)


def test_context_channels_are_sums_of_gaussians_of_van_der_waals_radii(ligands, proteins):
    data = prepared(ligands, proteins)
    batch = batch_of(data)
    rendered = data.render(batch)
    assert rendered.context.shape == (3, 4, 16, 16, 16)
    voxels = np.stack(np.meshgrid(*data.lattice.coordinates.values(), indexing="ij"), -1)
    expected = np.zeros((4, 16, 16, 16))
    for x, y, z, channel in batch.context[0].tolist():
        width = 0.93 * (1.70, 1.55, 1.52, 1.80)[int(channel)]
        square = ((voxels - [x, y, z]) ** 2).sum(-1)
        expected[int(channel)] += np.exp(-square / width**2)
    np.testing.assert_allclose(rendered.context[0], expected, atol=1e-5)
    assert expected.max() > 0.5
    assert not rendered.context.isnan().any()


def test_all_that_could_reach_into_the_box_is_kept(ligands, tmp_path):
    """An atom is left away only where its density is nothing, however the box is turned."""
    row = [line for n in range(60) for line in residue((0.5 * n, 0, 0), n + 1)]
    data = prepared(ligands, proteins_of(tmp_path / "p", {"a": row}))
    kept = np.linalg.norm(data[0].context[:, :3], axis=1).max()
    half_diagonal = 3.2 * np.sqrt(3)
    assert half_diagonal + np.sqrt(3) + 2.5 * 0.93 * 1.8 < kept < 16


def test_statistics_and_conditions_see_the_rendered_context(ligands, proteins):
    subset = Subset(prepared(ligands, proteins), range(3))
    batch = real_batch(subset, range(3))
    measured = measure(subset.batches(2)).context
    torch.testing.assert_close(measured.mean, batch.context.mean((0, 2, 3, 4)))
    assert torch.equal(conditions_of(batch, subset.info).context, batch.context)


def test_molecules_without_a_pocket_are_counted_with_the_reason(ligands, tmp_path):
    folder = tmp_path / "p"
    names = ["far", "water", "missing", "bad", "good", "cut"]
    path = write_ligands(tmp_path / "l", names)
    proteins_of(
        folder,
        {
            "far": residue((300, 0, 0)),
            "water": residue((3, 0, 0), 1, "HOH", "HETATM"),
            "bad": [line.replace("24.000", "wrong ") for line in PROTEIN],
            "good": PROTEIN,
            "unasked": PROTEIN,
        },
    )
    (folder / "cut.pdb.gz").write_bytes(gzip.compress("\n".join(PROTEIN).encode())[:60])
    data = prepared(path, folder)
    assert len(data) == 1
    assert data.pocket_entries.ids == ["good"]
    assert [reject.id for reject in data.pocket_entries.rejects] == [
        n for n in names if n != "good"
    ]
    findings = {finding.name: finding.text for finding in data.findings()}
    assert "5 without a pocket" in findings["samples"]
    assert findings["pockets"].startswith("1 of 15 atoms (median); ")
    for reason in (
        "1 without a structure file of their name",
        "1 with no atom of the protein within",
        "1 no protein is in its structure file",
        "1 its structure file is damaged",
        "1 line 1 has the coordinates",
    ):
        assert reason in findings["pockets"]


def test_large_pockets_are_left_out_and_nothing_that_fits_is_an_error(ligands, proteins, tmp_path):
    data = prepared(ligands, proteins, max_pocket_atoms=10)
    assert len(data) == 2
    assert data.info.stored_context_shape == (10, 4)
    assert "1 in pockets of more than 10 atoms" in dict(data.findings())["samples"]
    wrong = prepared(ligands, proteins_of(tmp_path / "wrong", {"A": PROTEIN}))
    with pytest.raises(UserError, match=r"3 without a pocket\..* by ids: a\.pdb"):
        len(wrong)


def test_only_the_packed_copy_is_read_in_training(ligands, proteins, tmp_path):
    data = prepared(ligands, proteins)
    before = [data[i].context for i in range(3)]
    shutil.rmtree(proteins)
    ligands.unlink()
    again = packed_or_raw(Molecules(path=str(ligands), pockets=str(proteins), num_voxels=16))
    worker = pickle.loads(pickle.dumps(again))
    for old, new in zip(before, worker.get_batch([0, 1, 2]), strict=True):
        np.testing.assert_array_equal(old, new.context)


def test_a_smaller_box_or_other_elements_read_the_entries_that_are_packed(ligands, proteins):
    prepared(ligands, proteins)
    entries = next(Path("packed").rglob("entries.h5"))
    before = entries.stat().st_mtime_ns
    larger = Molecules(path=str(ligands), pockets=str(proteins), num_voxels=32)
    with pytest.raises(
        UserError, match="not packed yet, or for another box: run `rawdiff prepare`"
    ):
        _ = packed_or_raw(larger).info
    prepared(ligands, proteins, num_voxels=32)
    assert entries.stat().st_mtime_ns == before
    assert len(list(Path("packed").rglob("pockets-*.h5"))) == 2
    assert Molecules(path=str(ligands)).packed(PACKED_FOLDER).info.num_context_channels == 0


def test_proteins_that_changed_or_came_are_noticed(ligands, proteins):
    (proteins / "c.pdb").unlink()
    data = prepared(ligands, proteins)
    assert len(data) == 2
    proteins_of(proteins, {"unasked": PROTEIN})
    assert len(packed_or_raw(Molecules(**data.model_dump()))) == 2
    proteins_of(proteins, {"c": PROTEIN})
    with pytest.raises(UserError, match=r"1 differ, such as c\.pdb"):
        packed_or_raw(Molecules(**data.model_dump()))


def test_poses_of_a_ligand_share_its_protein(tmp_path):
    path = write_ligands(tmp_path / "l", ["x", "x", "y"])
    folder = proteins_of(tmp_path / "p", {"x": PROTEIN, "y": PROTEIN[:6]})
    data = prepared(path, folder, repeated_ids="number")
    assert data.pocket_entries.ids == ["x", "x#2", "y"]
    np.testing.assert_array_equal(data[0].context, data[1].context)


def test_molecules_of_a_file_share_the_protein_of_its_name_but_for_their_own(ligands, tmp_path):
    folder = proteins_of(tmp_path / "p", {"ligands": PROTEIN, "b": PROTEIN[:6]})
    data = prepared(ligands, folder)
    context = batch_of(data).context
    assert (~context[..., 0].isnan()).sum(1).tolist() == [15, 5, 15]


@pytest.mark.parametrize("ending", [".pdb.gz", ".cif"])
def test_pockets_are_read_of_any_structure_file(ligands, proteins, tmp_path, ending):
    text = (proteins / "a.pdb").read_text()
    other = tmp_path / "other"
    other.mkdir()
    if ending == ".pdb.gz":
        (other / "a.pdb.gz").write_bytes(gzip.compress(text.encode()))
    else:
        structure = gemmi.read_pdb_string(text)
        structure.setup_entities()
        structure.make_mmcif_document().write_file(str(other / "a.cif"))
    expected = prepared(ligands, proteins)[0].context
    np.testing.assert_allclose(prepared(ligands, other)[0].context, expected, atol=1e-4)


def test_two_files_of_one_pocket_are_an_error(ligands, proteins):
    (proteins / "a.ent").write_text("\n".join(PROTEIN))
    with pytest.raises(UserError, match="both the pocket of a"):
        prepared(ligands, proteins)


def test_a_packed_file_of_ligands_can_have_pockets_too(ligands, proteins):
    expected = prepared(ligands, proteins)
    given = prepared(expected.entries.path, proteins)
    assert len(given) == 3
    np.testing.assert_array_equal(given[1].context, expected[1].context)


def test_a_pose_by_itself_is_refused_with_pockets(ligands):
    with pytest.raises(ValidationError, match="unknown when"):
        Molecules(path=str(ligands), pockets="p", orientation="principal")
    with pytest.raises(ValidationError, match="stands twice"):
        Molecules(path=str(ligands), pockets="p", pocket_elements=["C", "C"])


def test_ligands_lie_far_from_the_origin_of_their_files(ligands, proteins):
    """Else nothing above would show that they are brought to the middle together."""
    molecule = prepared(ligands, proteins).entries.molecules([0])[0]
    np.testing.assert_allclose(molecule.positions.mean(0), AT + MIDDLE, atol=1e-4)
