"""Sample order, splits, loading from any place, statistics, missing values."""

import numpy as np
import pytest
import torch
from runs import small_recipe, write_arrays

from rawdiff.adapter import GridAdapter
from rawdiff.assemble import open_data, take_statistics
from rawdiff.data.dataset import Batch, DataInfo, Dataset, Sample, collate
from rawdiff.data.loading import Subset, run_batches, unlike
from rawdiff.data.order import SampleOrder, split
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Statistics, measure
from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid
from rawdiff.recipe_file import load_recipe


class Counting(Dataset):
    """Sample i holds the number i."""

    num: int = 10

    @property
    def info(self) -> DataInfo:
        return DataInfo(shape=(1, 2), channels=("number",), class_names=("a", "b", "c"))

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Sample:
        return Sample(x=torch.full((1, 2), float(index)).numpy(), label=index % 3)


@pytest.mark.parametrize(("num", "batch_size"), [(10, 4), (7, 7), (5, 12), (9, 2)])
def test_every_epoch_has_every_sample_once_though_batches_straddle(num, batch_size) -> None:
    subset = Subset(Counting(num=num), range(num))
    batches = run_batches(subset, seed=1, batch_size=batch_size, start=0, num_workers=0)
    seen = []
    while len(seen) < 4 * num:
        batch = next(batches)
        assert batch.index.tolist() == list(range(len(seen), len(seen) + batch_size))
        seen += batch.x[:, 0, 0].long().tolist()
    epochs = [seen[i * num : (i + 1) * num] for i in range(4)]
    assert all(sorted(epoch) == list(range(num)) for epoch in epochs)
    assert epochs[0] != epochs[1] or num == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_from_any_place_gives_the_same_batches(num_workers) -> None:
    subset = Subset(Counting(num=11), range(11))
    whole = run_batches(subset, seed=1, batch_size=4, start=0, num_workers=0)
    for _ in range(3):
        next(whole)
    late = run_batches(subset, seed=1, batch_size=4, start=12, num_workers=num_workers)
    for _ in range(4):
        a, b = next(whole), next(late)
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.label, b.label)


def test_order_depends_on_the_seed() -> None:
    a, b = SampleOrder(50, seed=0), SampleOrder(50, seed=1)
    assert [a[i] for i in range(50)] != [b[i] for i in range(50)]


def test_a_split_parts_the_data_and_leaves_both_something() -> None:
    train, held_out = split(20, 0.25, seed=0)
    assert (len(train), len(held_out)) == (15, 5)
    assert sorted(train + held_out) == list(range(20))
    assert [len(part) for part in split(2, 0.01, seed=0)] == [1, 1]


def _batch(x: torch.Tensor, **more) -> Batch:
    return Batch(x=x, index=torch.arange(len(x)), **more)


def test_streamed_statistics_equal_those_of_the_whole_and_leave_out_missing_values() -> None:
    x = 1e4 + 3 * torch.randn(64, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    x[:, 1] *= 0.01
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.3] = torch.nan
    statistics = measure([_batch(part) for part in x.split(7)])
    channels = x.double().transpose(0, 1).flatten(1)
    for i, channel in enumerate(channels):
        known = channel[~channel.isnan()]
        assert float(statistics.x.mean[i]) == pytest.approx(float(known.mean()), rel=1e-6)
        assert float(statistics.x.std[i]) == pytest.approx(float(known.std(correction=0)), rel=1e-5)
    assert statistics.missing_varies


def test_statistics_come_back_from_the_disk(tmp_path) -> None:
    x = torch.randn(6, 2, 4)
    x[:, 0, 1] = torch.nan
    statistics = measure([_batch(x, context=torch.randn(6, 1, 4), scalars=torch.randn(6, 3))])
    statistics.save(tmp_path / "s.safetensors")
    again = Statistics.load(tmp_path / "s.safetensors")
    assert torch.equal(again.ever_present, statistics.ever_present)
    assert not again.missing_varies
    for name in ("x", "context", "scalars"):
        assert torch.equal(getattr(again, name).std, getattr(statistics, name).std)


def test_a_channel_without_any_value_is_named() -> None:
    x = torch.randn(4, 3, 2)
    x[:, 1] = torch.nan
    with pytest.raises(UserError, match=r"Channels \[1\] of `x`"):
        measure([_batch(x)])


def _patcher(x: torch.Tensor, **more) -> Patcher:
    adapter = GridAdapter(patch_size=(2,), pad=True)
    statistics = measure([_batch(x, **more)])
    return Patcher(adapter, statistics, PatchGrid(adapter.axes(tuple(x.shape[1:]), {})))


def test_missing_values_and_padding_weigh_nothing_and_are_told_to_the_network() -> None:
    x = torch.randn(8, 1, 5)
    x[0, 0, 2] = torch.nan
    x[:, 0, 4] = torch.nan  # missing in every sample: the last patch is never there
    patcher = _patcher(x)
    patches = patcher.patches(_batch(x))
    assert patches.x.isfinite().all()
    assert patches.weight[0].tolist() == [[1, 1], [0, 1], [0, 0]]
    assert patches.present[0].tolist() == [True, True, False]
    assert torch.equal(patches.extra, patches.known.float())
    assert patcher.extra_dim == 2
    assert patcher.known(1, torch.device("cpu"))[0].tolist() == [
        [True] * 2,
        [True] * 2,
        [False] * 2,
    ]


def test_data_in_the_datas_own_units_come_back() -> None:
    x = 280 + 15 * torch.randn(9, 2, 6)
    patcher = _patcher(x)
    patches = patcher.patches(_batch(x))
    assert patches.known is None
    assert abs(float(patches.x.mean())) < 1e-4
    assert abs(float(patches.x.std(correction=0)) - 1) < 1e-3
    back = patcher.destandardize(patcher.raw(patches.x))
    assert torch.allclose(back, x, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (6,), (1, 6), (2, 6), (2, 1)])
def test_weights_of_any_form_reach_their_values(shape) -> None:
    random = np.random.default_rng(0)
    samples = [
        Sample(x=random.random((2, 6)), weight=random.random(shape, dtype=np.float32))
        for _ in range(4)
    ]
    batch = collate(samples, range(4))
    patcher = _patcher(batch.x)
    found = patcher.raw(patcher.patches(batch).weight)
    for i, sample in enumerate(samples):
        assert np.array_equal(found[i].numpy(), np.broadcast_to(sample.weight, (2, 6)))


def test_a_weight_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="does not broadcast"):
        collate([Sample(x=np.zeros((2, 6)), weight=np.ones(2))], [0])


def test_context_and_its_gaps_are_told_to_the_network() -> None:
    x, context = torch.randn(4, 1, 4), torch.randn(4, 2, 4)
    context[0, 0, 0] = torch.nan
    patcher = _patcher(x, context=context)
    patches = patcher.patches(_batch(x, context=context))
    assert patches.extra.shape == (4, 2, patcher.extra_dim) == (4, 2, 8)
    assert patches.extra.isfinite().all()
    assert patches.extra[0, 0, 0] == 0
    assert patches.extra[0, 0, 4] == 0
    assert patches.extra[1, 0, 4] == 1


class Lying(Counting):
    """Says one thing of its samples and brings another."""

    lie: str

    def __getitem__(self, index: int) -> Sample:
        x = np.zeros((1, 3) if self.lie == "shape" else (1, 2), dtype=np.float32)
        label = {"label": 3, "no label": None}.get(self.lie, 0)
        scalars = np.zeros(2, dtype=np.float32) if self.lie == "scalars" else None
        context = x if self.lie == "context" else None
        return Sample(x=x, label=label, scalars=scalars, context=context)


@pytest.mark.parametrize("lie", ["shape", "label", "no label", "scalars", "context"])
def test_a_sample_that_is_not_what_its_dataset_says_is_named(lie) -> None:
    with pytest.raises(UserError, match=r"Sample 4 of Lying has .*Correct the dataset"):
        Subset(Lying(lie=lie), range(10)).get_batch([4])
    assert Subset(Lying(lie="none"), range(10)).get_batch([4])


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (np.zeros((1, 4)), "must be a Sample"),
        (Sample([[0.0]]), "NumPy array as `x`"),
        (Sample(np.zeros((1, 4), complex)), "of dtype complex128; it must be of real numbers"),
        (Sample(np.zeros((1, 4)), label=0.5), "has label 0.5; it must be a whole number"),
        (Sample(np.zeros((1, 4)), label="a"), "has label 'a'; it must be a whole number"),
        (Sample(np.zeros((1, 4)), label=0, scalars=3.0), "an array [S]"),
    ],
)
def test_a_sample_of_a_wrong_kind_is_told_so(sample, said) -> None:
    info = DataInfo((1, 4), ("a",), class_names=("a", "b"), scalar_names=("s",))
    assert said in unlike(sample, info)
    right = Sample(np.zeros((1, 4)), label=np.int64(1), scalars=np.zeros(1))
    assert unlike(right, info) is None


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (
            1e300 * torch.randn(8, 1, 4).double(),
            "spread inf, which float32 does not hold. Give .* other units",
        ),
        (1e-60 * torch.randn(8, 1, 4).double(), "float32 does not hold"),
        (1e6 + 5e-7 * torch.randn(8, 1, 4).double(), "does not keep such small differences"),
    ],
)
def test_data_that_float32_does_not_hold_are_named(x, said) -> None:
    with pytest.raises(UserError, match=rf"Channel 0 of `x` has mean .*{said}"):
        measure([_batch(x)])


def test_a_constant_channel_is_constant_though_sums_are_rounded() -> None:
    statistics = measure([_batch(torch.full((3, 1, 333), 0.7, dtype=torch.float64))] * 2)
    assert statistics.x.std.item() == 1.0


class Flipped(GridAdapter):
    def unpatchify(self, patches, shape):
        return super().unpatchify(patches.flip(1), shape)


class Doubled(GridAdapter):
    def patchify(self, x):
        return super().patchify(x.mul_(2))

    def unpatchify(self, patches, shape):
        return super().unpatchify(patches, shape)


class ManyPatches(GridAdapter):
    def patchify(self, x):
        return super().patchify(x).repeat(1, 2, 1)


class Nothing(GridAdapter):
    def patchify(self, x):
        return None


class OtherPositions(GridAdapter):
    def sample_positions(self, place, names):
        return place.mT


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Flipped, r"unpatchify\(patchify\(x\)\) must be x"),
        (Doubled, "x must stay as it is"),
        (ManyPatches, "2 positions, but `patchify` makes 4 patches"),
        (Nothing, r"must return \[B, N, P\], returned NoneType"),
    ],
)
def test_no_run_begins_with_an_adapter_that_does_not_give_samples_back(kind, said) -> None:
    x, adapter = torch.randn(4, 1, 4), kind(patch_size=(2,))
    with pytest.raises(UserError, match=f"{kind.__name__} cannot be used: .*{said}.*check-adapter"):
        Patcher(adapter, measure([_batch(x)]), PatchGrid(adapter.axes((1, 4), {})))


def test_positions_of_another_shape_than_the_grid_are_named() -> None:
    adapter, x = OtherPositions(patch_size=(2,)), torch.randn(4, 1, 4)
    patcher = Patcher(adapter, measure([_batch(x)]), PatchGrid(adapter.axes((1, 4), {})), ("a",))
    assert patcher.positions(torch.zeros(4, 1, 2)).shape == (4, 2, 1)
    with pytest.raises(UserError, match=r"must be \[4, 2, 1\], are \[4, 2, 2\]"):
        patcher.positions(torch.zeros(4, 2, 2))


@pytest.mark.parametrize("weight", [-1.0, np.inf, np.nan])
def test_weights_that_are_none_are_refused(weight) -> None:
    with pytest.raises(UserError, match="negative or not finite"):
        collate([Sample(x=np.zeros((1, 2)), weight=np.full((1, 2), weight))], [0])


def test_infinite_values_are_named_when_statistics_are_taken() -> None:
    x = torch.zeros(4, 2, 3)
    x[2, 1, 0] = torch.inf
    with pytest.raises(UserError, match=r"Channels \[1\] of `x` hold infinite values"):
        measure([_batch(x)])


def test_statistics_of_some_samples_are_those_of_every_so_manieth(tmp_path) -> None:
    x = np.arange(100, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 4, 4), np.float32)
    recipe = load_recipe(
        small_recipe(
            tmp_path, write_arrays(tmp_path, x=x), [2, 2], standardization={"num_samples": 4}
        )
    )
    statistics = take_statistics(recipe, open_data(recipe).train)
    chosen = x[::25]
    assert statistics.num_samples == 4
    assert float(statistics.x.mean) == pytest.approx(chosen.mean())
    assert float(statistics.x.std) == pytest.approx(chosen.std())
