"""What is learned may be made of what is stored: everywhere the same, after random changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import small_recipe, write_arrays

from rawdiff.assemble import make_patcher, take_statistics
from rawdiff.conditions import real_batch
from rawdiff.data.dataset import Batch, DataInfo, Dataset, Draw, Sample, collate
from rawdiff.data.loading import Subset
from rawdiff.data.packed import pack
from rawdiff.errors import UserError
from rawdiff.recipe_file import load_recipe
from rawdiff.train.objective import Objective

CPU = torch.device("cpu")


class Steps(Dataset):
    """Stores one number, learns four that rise by it; augmentation changes its sign."""

    gaps: bool = False

    @property
    def info(self) -> DataInfo:
        return DataInfo(shape=(1, 4), channels=("c",), stored_shape=(1,))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.array([index + 1.0], dtype=np.float32))

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        return replace(batch, x=-batch.x)

    def render(self, batch: Batch) -> Batch:
        x = batch.x[:, None] * torch.arange(1, 5)
        if self.gaps:
            x = torch.where(x.abs() > 20, torch.nan, x)
        return replace(batch, x=x)


@pytest.mark.parametrize("gaps", [False, True])
def test_training_learns_what_is_rendered_after_augmentation(tmp_path, gaps) -> None:
    arrays = write_arrays(tmp_path, x=np.ones((4, 1, 4), dtype=np.float32))
    recipe = load_recipe(small_recipe(tmp_path, arrays, [2]), [])
    train = Subset(Steps(gaps=gaps), range(8))
    statistics = take_statistics(recipe, train)
    patcher = make_patcher(recipe, train.info, statistics, CPU)
    objective = Objective(recipe, patcher, train, CPU)
    batch = collate(train.get_batch(range(8)), range(8))
    rendered = train.render(batch).x
    assert objective.weight(batch) == int((~rendered.isnan()).sum()) == (27 if gaps else 32)
    learned = objective.prepare(batch).patches
    expected = patcher.adapter.patchify(patcher.standardize(-rendered)).nan_to_num(0.0)
    assert torch.equal(learned.x, expected)
    assert statistics.x.mean.item() == pytest.approx(float(rendered.nanmean()))


def test_real_samples_are_rendered_wherever_they_are_read() -> None:
    subset = Subset(Steps(), range(8))
    whole = real_batch(subset, range(8)).x
    assert whole[2].tolist() == [[3, 6, 9, 12]]
    assert torch.equal(torch.cat([batch.x for batch in subset.batches(3)]), whole)


def test_a_sample_unlike_what_is_said_to_be_stored_is_an_error() -> None:
    class Wrong(Steps):
        @property
        def info(self) -> DataInfo:
            return replace(super().info, stored_shape=(2,))

    with pytest.raises(UserError, match=r"has shape \(1,\) instead of \(2,\)"):
        Subset(Wrong(), range(8)).get_batch([0])


def test_a_context_is_as_large_as_what_is_said_to_be_stored() -> None:
    class WithContext(Steps):
        stored: tuple[int, ...] | None = None

        @property
        def info(self) -> DataInfo:
            info = replace(super().info, num_context_channels=2)
            return replace(info, stored_context_shape=self.stored)

        def __getitem__(self, index: int) -> Sample:
            return replace(super().__getitem__(index), context=np.zeros((3, 4)))

    assert len(Subset(WithContext(stored=(3, 4)), range(8)).get_batch([0])) == 1
    with pytest.raises(UserError, match=r"has context \(3, 4\) instead of \(3, 5\)"):
        Subset(WithContext(stored=(3, 5)), range(8)).get_batch([0])
    with pytest.raises(UserError, match="has 3 channels of context instead of 2"):
        Subset(WithContext(), range(8)).get_batch([0])


def test_a_packed_copy_renders_as_its_source(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rawdiff.data.packed.plugin_name", lambda kind, target: "steps")
    monkeypatch.setattr("rawdiff.data.packed.load_plugin", lambda kind, name: Steps)
    packed = Subset(pack(Steps(), tmp_path / "packed"), range(8))
    assert torch.equal(real_batch(packed, [3]).x, real_batch(Subset(Steps(), range(8)), [3]).x)
