from pathlib import Path

import numpy as np
import pytest
import torch
from lattice_cases import WATER
from pydantic import ValidationError
from rawdiff_molecules.backbones import Backbones
from rawdiff_molecules.complexes import Complexes
from rawdiff_molecules.decode import decode

import rawdiff
from rawdiff.data.dataset import DataInfo, collate
from rawdiff.recipe import Recipe
from rawdiff.train.start import train

GLYCINE = [("N", -1.2, 0.6, 0.3), ("CA", 0, 0, 0), ("C", 1.3, 0.7, -0.2), ("O", 1.4, 1.9, 0.1)]
PLACES = [(4, 0, 0), (-4, 1, 0), (0, 4, 1), (0, 0, 30)]  # of residues; the last one is far away


def protein() -> str:
    lines = []
    for number, place in enumerate(PLACES, start=1):
        for name, *offset in GLYCINE:
            x, y, z = np.add(place, offset)
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {name:<3s} GLY A{number:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {name[0]}"
            )
    return "\n".join([*lines, "TER", "END"])


def complexes(folder: Path, **keys) -> Complexes:
    """Three waters in files a, b and c; proteins for the first two."""
    for name in ("a", "b", "c"):
        atoms = "\n".join(" ".join(map(str, atom)) for atom in WATER)
        (folder / f"{name}.xyz").write_text(f"3\n\n{atoms}\n")
    for name in ("a", "b"):
        (folder / f"{name}.pdb").write_text(protein())
    proteins = Backbones(path=str(folder), max_length=99, chains="together")
    pockets = proteins.pack(folder / "packed", lambda done, of: None)
    raw = Complexes(path=str(folder), pockets=pockets, num_voxels=40, **keys)
    raw.pack(folder / "packed", lambda done, of: None)
    packed = raw.packed(folder / "packed")
    assert isinstance(packed, Complexes)
    return packed


def batch_of(data):
    return collate(data.get_batch(range(len(data))), range(len(data)))


def test_a_pocket_is_the_residues_near_the_molecule_with_their_mean_at_the_origin(tmp_path):
    batch = batch_of(complexes(tmp_path))
    points = batch.context.flatten(1, 2)  # [B, C' k, 3]
    assert (~points.isnan().any(-1)).sum(1).tolist() == [12, 12]  # three of the four residues
    torch.testing.assert_close(points.nanmean(1), torch.zeros(2, 3), atol=1e-5, rtol=0)


def test_molecule_and_pocket_keep_their_distances_when_they_are_turned(tmp_path):
    data = complexes(tmp_path)
    batch = batch_of(data)
    generator = torch.Generator().manual_seed(0)
    changed = data.augment(batch, lambda n: torch.rand(len(batch), n, generator=generator))

    def apart(b):
        around = b.context.flatten(1, 2)
        return (b.x[:, :, None, :3] - around[:, None]).norm(dim=-1)  # NaN where no atom is

    torch.testing.assert_close(apart(changed), apart(batch), atol=1e-4, rtol=0, equal_nan=True)
    assert int(apart(batch).isfinite().sum()) == 2 * 3 * 12
    assert not torch.allclose(changed.x, batch.x, equal_nan=True)


def test_the_context_is_the_density_of_the_pocket(tmp_path):
    data = complexes(tmp_path)
    batch = batch_of(data)
    rendered = data.render(batch)
    assert rendered.context.shape == (2, 4, 40, 40, 40)
    info = DataInfo(
        shape=rendered.context.shape[1:],
        channels=data.pocket_elements,
        coordinates=data.info.coordinates,
        meaning=data.info.meaning,
    )
    found = decode(rendered.context, info)[0]
    stored = batch.context[0].flatten(0, 1)
    stored = stored[~stored.isnan().any(-1)].numpy()
    distances = np.linalg.norm(found.positions[:, None] - stored[None], axis=-1)
    assert len(found.positions) == len(stored)
    assert distances.min(0).max() < 0.01


def test_molecules_without_a_pocket_are_left_out_and_counted(tmp_path):
    data = complexes(tmp_path)
    assert len(data) == 2
    assert "1 without a pocket" in dict(data.findings())["samples"]


def test_a_pocket_cannot_lie_in_the_pose_of_its_molecule(tmp_path):
    with pytest.raises(ValidationError, match="orientation: random"):
        Complexes(path="x", pockets=tmp_path, orientation="principal")


def test_a_run_learns_molecules_given_pockets_and_draws_new_ones(tmp_path):
    data = complexes(tmp_path)
    keys = {**data.model_dump(mode="json"), "name": "complexes", "path": str(data.entries.path)}
    run = tmp_path / "run"
    recipe = {
        "run_dir": str(run),
        "data": keys,
        "adapter": {"name": "mol3d", "patch_size": 20},
        "standardization": {"mode": "fixed", "mean": 0, "std": 0.25},
        "model": {"width": 16, "depth": 1, "heads": 1, "bottleneck": 8, "in_context_len": 0},
        "train": {"num_steps": 2, "batch_size": 2, "tensorboard": False, "device": "cpu"},
    }
    train(Recipe.model_validate(recipe), lambda line: None)
    pocket = data.render(batch_of(data)).context[:1]
    drawn = rawdiff.load(run).sample(1, num_steps=1, context=pocket)
    assert drawn.shape == (1, *data.info.shape)
