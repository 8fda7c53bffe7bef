import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from lattice_cases import ETHYNE, METHANE, WATER, packed_molecules
from pydantic import ValidationError
from rawdiff_molecules.decode import decode
from rawdiff_molecules.formula_template import FormulaTemplate
from rawdiff_molecules.motion import uniform_rotations

from rawdiff.data.dataset import collate
from rawdiff.errors import UserError

FAR = [("C", -3, 0, 0), ("C", 3, 0, 0)]
BENT = [("C", 0, 0, 0), ("O", 0.3, 1.1, 0.2), ("N", 1.2, -0.5, 0.1), ("H", -0.4, -0.2, 1.0)]


def draw_of(seed, size):
    generator = torch.Generator().manual_seed(seed)
    return lambda n: torch.rand(size, n, generator=generator)


def batch_of(dataset):
    return collate(dataset.get_batch(range(len(dataset))), range(len(dataset)))


def distances(x):
    """Between all atoms [B, A, A]; the handedness of the first four [B]."""
    points = x[..., :3].nan_to_num(0.0)
    a, b, c = ((points[:, i] - points[:, 0]) for i in (1, 2, 3))
    return torch.cdist(points, points), torch.linalg.det(torch.stack((a, b, c), 1)).sign()


def test_what_is_stored_becomes_densities_of_the_announced_shape(tmp_path):
    data = packed_molecules(tmp_path, [METHANE, WATER], num_voxels=16)
    batch = batch_of(data)
    assert batch.x.shape[1:] == data.info.stored_shape == (5, 4)
    assert data.render(batch).x.shape[1:] == data.info.shape == (3, 16, 16, 16)
    assert data.info.channels == ("C", "H", "O")


def test_turned_and_moved_molecules_are_never_mirrored_or_bent(tmp_path):
    data = packed_molecules(tmp_path, [BENT] * 40, num_voxels=16)
    batch = batch_of(data)
    before = batch.x.clone()
    changed = data.augment(batch, draw_of(0, len(batch))).x
    for a, b in zip(distances(before), distances(changed), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    np.testing.assert_array_equal(batch.x, before)  # what is stored stays as it is
    assert len({tuple(row) for row in (changed[:, 1, :3] > 0).tolist()}) >= 4
    middles = changed[..., :3].nanmean(1)
    assert 0.1 < float(middles.abs().max()) <= data.spacing / 2 + 1e-5


def test_principal_axes_lie_along_x_then_y_then_z(tmp_path):
    sample = packed_molecules(tmp_path, [BENT], orientation="principal")[0]
    moments = sample.x[:, :3].T @ sample.x[:, :3]
    np.testing.assert_allclose(moments - np.diag(np.diag(moments)), 0, atol=1e-5)
    assert np.all(np.diff(np.diag(moments)) <= 0)


def test_a_pose_is_that_of_the_molecule_however_it_lies_in_its_file(tmp_path):
    turns = uniform_rotations(draw_of(0, 20)).numpy()
    turned = [[(atom[0], *np.round(turn @ atom[1:], 6)) for atom in BENT] for turn in turns]
    data = packed_molecules(tmp_path, turned, orientation="principal")
    batch = batch_of(data)
    np.testing.assert_allclose(batch.x, batch.x[:1].expand_as(batch.x), atol=1e-4)
    assert data.augment(batch, draw_of(0, 20)) is batch  # it stays in that pose
    in_file = torch.tensor([atom[1:] for atom in BENT])[None]
    assert distances(batch.x)[1].unique() == distances(in_file)[1]  # and is not mirrored


def test_molecules_that_could_leave_the_box_are_left_out_and_counted(tmp_path):
    data = packed_molecules(tmp_path, [WATER, FAR, METHANE], num_voxels=14)  # 5.6 Angstrom
    assert len(data) == 2
    findings = dict(data.findings())
    assert "1 that could leave the box" in findings["samples"]
    assert findings["box"].startswith("5.6 x 5.6 x 5.6")


def test_no_turn_or_shift_brings_a_sample_over_a_wall(tmp_path):
    data = packed_molecules(tmp_path, [FAR] * 200, num_voxels=17)  # 0.2 Angstrom to spare
    batch = batch_of(data)
    changed = data.augment(batch, draw_of(1, len(batch)))
    assert float(changed.x[..., :3].abs().max()) <= data.lattice.half_box[0] + 1e-5
    for decoded in decode(data.render(changed).x, data.info):
        assert len(decoded.elements) == 2


def test_how_far_molecules_are_moved_is_part_of_what_must_fit(tmp_path):
    fits = packed_molecules(tmp_path, [FAR] * 50, num_voxels=20, max_shift=0.9)
    changed = fits.augment(batch_of(fits), draw_of(1, 50))
    assert 3.3 < float(changed.x[..., :3].abs().max()) <= fits.lattice.half_box[0]
    with pytest.raises(UserError, match="50 that could leave the box"):
        len(packed_molecules(tmp_path, [FAR] * 50, num_voxels=20, max_shift=1.1))


def test_other_elements_and_more_atoms_are_left_out_and_counted(tmp_path):
    data = packed_molecules(
        tmp_path, [WATER, METHANE, ETHYNE], elements=["C", "H"], max_atoms=4, num_voxels=16
    )
    assert len(data) == 1
    text = dict(data.findings())["samples"]
    assert "1 with elements other than C, H" in text
    assert "1 of more than 4 atoms" in text


def test_nothing_that_fits_is_an_error_that_says_why(tmp_path):
    data = packed_molecules(tmp_path, [FAR], num_voxels=8)
    with pytest.raises(UserError, match=r"fits the box of 3\.2 x .* 1 that could leave"):
        len(data)


def test_a_worker_gets_the_same_samples(tmp_path):
    data = packed_molecules(tmp_path, [METHANE, WATER], num_voxels=16)
    again = pickle.loads(pickle.dumps(data))
    for a, b in zip(data.get_batch([1, 0]), again.get_batch([1, 0]), strict=True):
        np.testing.assert_array_equal(a.x, b.x)


def test_a_sample_is_rendered_without_the_others_of_its_batch(tmp_path):
    data = packed_molecules(tmp_path, [METHANE, WATER], num_voxels=16)
    batch = batch_of(data)
    alone = data.render(replace(batch, x=batch.x[1:], index=batch.index[1:]))
    torch.testing.assert_close(data.render(batch).x[1:], alone.x)


@pytest.mark.parametrize("elements", [["C", "Q"], ["C", "C"], []])
def test_elements_are_symbols_that_exist_once(tmp_path, elements):
    with pytest.raises(ValidationError):
        packed_molecules(tmp_path, [WATER], elements=elements)


def test_the_composition_is_told_and_asked_for_by_a_formula(tmp_path):
    data = packed_molecules(tmp_path, [METHANE, WATER], num_voxels=16, composition=True)
    assert data.info.scalar_names == ("num_C", "num_H", "num_O")
    assert [sample.scalars.tolist() for sample in data.get_batch([0, 1])] == [[1, 4, 0], [0, 2, 1]]
    template = FormulaTemplate(formulas=("CH4", "H2O"))
    asked = [template.wanted(index, data.info, lambda: data).scalars.tolist() for index in range(3)]
    assert asked == [[1, 4, 0], [0, 2, 1], [1, 4, 0]]


def test_formulas_that_cannot_be_drawn_are_refused(tmp_path):
    for formula in ("", "7H", "C2-H", "Xx3"):
        with pytest.raises(ValidationError, match="is no formula"):
            FormulaTemplate(formulas=(formula,))
    told = packed_molecules(tmp_path, [METHANE], num_voxels=16, composition=True).info
    with pytest.raises(UserError, match="has N, but the model was trained on C, H alone"):
        FormulaTemplate(formulas=("CH3N",)).wanted(0, told, lambda: [])
    untold = packed_molecules(tmp_path, [METHANE], num_voxels=16).info
    with pytest.raises(UserError, match="composition: true"):
        FormulaTemplate(formulas=("CH4",)).wanted(0, untold, lambda: [])
