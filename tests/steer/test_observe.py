"""Observations as users give them: operators on grids, files, and what they get wrong."""

import json

import numpy as np
import pytest
import torch
from posterior import MEAN, STD, Field
from test_sampling import CPU, Spy

from rawdiff import UserError
from rawdiff.adapter import GridAdapter
from rawdiff.conditions import Conditions
from rawdiff.data.dataset import DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Moments, Statistics
from rawdiff.flow.settings import FlowSettings
from rawdiff.grid import PatchGrid
from rawdiff.recipe import Recipe
from rawdiff.run import TrainedModel
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler, draw_all
from rawdiff.steer import memory, observe, operators
from rawdiff.steer.operators import Coarsen, Linear
from rawdiff.steer.stations import Stations

FIELD = Field(size=4)
ADAPTER = GridAdapter(patch_size=(2, 2), axis_names=("lat", "lon"), periodic=("lon",))
INFO = DataInfo(
    shape=(2, 4, 8),
    channels=("t", "q"),
    coordinates={"lat": (60.0, 40.0, 20.0, 0.0), "lon": tuple(range(0, 360, 45))},
)
GRID = PatchGrid(ADAPTER.axes(INFO.shape, {}))


def weather_sampler(network, there=None) -> Sampler:
    """Of two channels whose spreads differ by a million."""
    moments = Moments(torch.tensor([280.0, 5e-6]), torch.tensor([10.0, 1e-5]))
    there = torch.ones(INFO.shape, dtype=torch.bool) if there is None else there
    patcher = Patcher(ADAPTER, Statistics(moments, there, missing_varies=False), GRID)
    return Sampler(network, patcher, FlowSettings(), INFO, CPU, "float32")


def gaussian(z, t, label, **known):
    """E[x | z_t] of independent standardized values."""
    t = t[:, None, None]
    return z * t / (t.square() + (1 - t).square())


def draw(sampler, values, num=3, **settings):
    observed = {"operator": settings.pop("operator", "mask")}
    observed |= {key: settings.pop(key) for key in ("method", "noise_std") if key in settings}
    chosen = SampleSettings(observe=observed, num_steps=20, **settings)
    chosen, conditions = sampler.observing(chosen, Conditions(), num, values)
    return sampler.draw(torch.arange(num), conditions, chosen)


def test_stations_are_interpolated_between_grid_points_in_the_data_s_coordinates() -> None:
    x = torch.arange(4.0)[:, None] * 10 + torch.arange(8.0)  # 10 a row, 1 a column
    x = torch.stack((x, -x))[None]
    stations = Stations(positions=((50, 22.5), (60, 0), (0, 315), (20, 337.5), (20, -22.5)))
    found = stations.measure(INFO, GRID)(x)[0]
    assert found[0].tolist() == [5.5, 0.0, 37.0, 23.5, 23.5]  # between 315° and 0°: 7 and 0
    assert torch.equal(found[1], -found[0])
    plain = DataInfo(shape=(2, 4, 8), channels=("t", "q"))
    found = Stations(positions=((0.5, 0.5), (1, 7.5))).measure(plain, GRID)(x)[0, 0]
    assert found.tolist() == [5.5, 13.5]


def test_a_station_on_a_grid_point_does_not_feel_that_its_neighbours_are_missing() -> None:
    x = torch.full((1, 2, 4, 8), torch.nan)
    x[:, :, 1, 2] = 7.0
    found = Stations(positions=((40, 90), (40, 91))).measure(INFO, GRID)(x)
    assert found[0, 0, 0] == 7.0
    assert found[0, 0, 1].isnan()


def test_means_over_blocks_leave_out_what_is_missing() -> None:
    x = torch.arange(64.0).view(1, 2, 4, 8)
    means = Coarsen(factor=(2, 4)).measure(INFO, GRID)(x)
    assert means.shape == (1, 2, 2, 2)
    assert means[0, 0, 0, 0] == x[0, 0, :2, :4].mean()
    x[0, 0, :2, 1:4] = torch.nan
    x[0, 1, 2:, 4:] = torch.nan
    means = Coarsen(factor=(2, 4)).measure(INFO, GRID)(x)
    assert means[0, 0, 0, 0] == (0 + 8) / 2
    assert means[0, 1].isnan().tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("method", ["mmps", "replacement"])
def test_channels_of_any_size_are_observed_in_their_own_units(method) -> None:
    values = torch.full(INFO.shape, torch.nan)
    values[0, :, :4], values[1, :, :4] = 300.0, 2e-5
    x = draw(weather_sampler(gaussian), values, method=method)
    assert (x[:, 0, :, :4] - 300.0).abs().max() < 1.0  # 10 % of the spread
    assert (x[:, 1, :, :4] - 2e-5).abs().max() < 1e-6
    assert x[:, 0, :, 4:].std() > 5


def test_the_noise_of_each_channel_weighs_what_was_observed_of_it() -> None:
    values = torch.full(INFO.shape, torch.nan)
    values[0], values[1] = 300.0, 2.5e-5  # two spreads above the means
    x = draw(weather_sampler(gaussian), values, num=64, noise_std=[0.1, 1e-5])
    assert float(x[:, 0].mean()) == pytest.approx(300.0, abs=0.5)
    assert float(x[:, 1].mean()) == pytest.approx(1.5e-5, abs=1e-6)  # halfway


def test_what_lies_where_samples_have_no_values_is_not_observed() -> None:
    there = torch.ones(INFO.shape, dtype=torch.bool)
    there[:, :2] = False
    values = torch.full(INFO.shape, 290.0)
    x = draw(weather_sampler(gaussian, there), values, operator="mask", noise_std=1.0)
    assert x[:, :, :2].isnan().all()
    assert torch.isfinite(x[:, :, 2:]).all()
    values[:, 2:] = torch.nan
    with pytest.raises(UserError, match="where samples have no values"):
        draw(weather_sampler(gaussian, there), values)


def test_any_differentiable_function_is_an_operator() -> None:
    def largest(x):
        return x.flatten(1).logsumexp(1, keepdim=True)

    model = TrainedModel(_recipe(), FIELD.sampler(), {})
    x = model.sample(64, observe=np.array([MEAN + 3 * STD]), operator=largest, noise_std=1.0)
    free = model.sample(64)
    assert abs(float(largest(x).mean()) - MEAN - 3 * STD) < 2
    assert abs(float(largest(free).mean()) - MEAN - 3 * STD) > 5


def test_a_matrix_is_an_operator(tmp_path) -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    np.save(tmp_path / "matrix.npy", matrix)
    x = torch.randn(5, 2, 4, 8)
    found = Linear(matrix=tmp_path / "matrix.npy").measure(INFO, GRID)(x)
    assert torch.allclose(found, x.flatten(1) @ torch.from_numpy(matrix).T)
    np.save(tmp_path / "matrix.npy", matrix[:, :-1])
    with pytest.raises(UserError, match=r"\[3, 63\].*must be \[M, 64\]"):
        Linear(matrix=tmp_path / "matrix.npy").measure(INFO, GRID)


def test_a_matrix_is_read_once_for_all_batches(tmp_path, monkeypatch) -> None:
    np.save(tmp_path / "matrix.npy", np.eye(64, dtype=np.float32)[:3])
    opened, open_array = [], operators.open_array

    def spy(path, *args, **others):
        opened.append(path)
        return open_array(path, *args, **others)

    monkeypatch.setattr(operators, "open_array", spy)
    sampler = weather_sampler(gaussian)
    operator = {"name": "linear", "matrix": str(tmp_path / "matrix.npy")}
    settings = SampleSettings(
        observe={"operator": operator, "noise_std": 1.0}, num_steps=2, batch_size=2
    )
    before = settings.model_dump(mode="json")
    chosen, conditions = sampler.observing(settings, Conditions(), 6, np.full(3, 290.0))
    assert len(list(draw_all(sampler, 6, conditions, chosen))) == 3
    assert opened == [tmp_path / "matrix.npy"]
    assert chosen.model_dump(mode="json") == before
    assert chosen == SampleSettings.model_validate(before)


def test_guidance_by_labels_and_frames_go_together_with_an_observation() -> None:
    spy = Spy()

    def network(z, t, label, **known):
        spy(z.detach(), t, label)
        return gaussian(z, t, label) + label[:, None, None]

    sampler = weather_sampler(network)
    info = DataInfo(**(vars(INFO) | {"class_names": ("a", "b")}))
    sampler = Sampler(network, sampler.patcher, sampler.flow, info, CPU, "float32")
    values = torch.full(INFO.shape, torch.nan)
    values[0] = 300.0
    chosen = SampleSettings(observe={}, num_steps=5, cfg_scale=2.0)
    chosen, conditions = sampler.observing(chosen, Conditions(torch.tensor([0, 1])), 2, values)
    looks = []
    x = sampler.draw(
        torch.arange(2), conditions, chosen, lambda t, look: looks.append(look.x_pred())
    )
    assert {len(call["z"]) for call in spy.seen} == {2, 4}
    assert (x[:, 0] - 300.0).abs().max() < 1.0
    assert looks[-1].shape == x.shape
    assert not looks[-1].requires_grad


# What a user gets wrong


def _recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "run_dir": "run",
            "data": {"name": "digits"},
            "adapter": {"name": "grid", "patch_size": [2, 2]},
            "train": {"num_steps": 1, "batch_size": 1},
            "sample": {"num_steps": 20},
        }
    )


NOTHING = np.full((1, 4, 4), np.nan)
SOME = np.zeros((1, 4, 4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"observe": np.zeros((4, 4))}, r"shape \[4, 4\], but the operator gives \[1, 4, 4\]"),
        ({"observe": np.zeros((3, 1, 4, 4))}, r"\[2, 1, 4, 4\] for 2 samples"),
        ({"observe": NOTHING}, "nothing but NaN"),
        ({"observe": np.full((1, 4, 4), np.inf)}, "infinite"),
        (
            {"observe": SOME, "operator": {"name": "coarsen", "factor": 3}},
            r"4 values cannot be cut into blocks of 3; the nearest `operator\.factor` .* is 2",
        ),
        ({"observe": SOME, "operator": {"name": "coarsen", "factor": [2, 2, 2]}}, "has 3 numbers"),
        ({"observe": SOME, "operator": "maks"}, "Did you mean `mask`"),
        ({"observe": SOME, "method": "dsp"}, "Did you mean `dps`"),
        (
            {
                "observe": SOME,
                "operator": {"name": "coarsen", "factor": 2},
                "method": "replacement",
            },
            "write `method: mmps`",
        ),
        ({"observe": SOME, "noise_std": 1.0, "method": "replacement"}, "leave out `noise_std`"),
        ({"observe": SOME, "noise_std": [1.0, 2.0]}, "2 numbers, but there are 1 channels"),
        ({"observe": SOME, "noise_std": 0.0}, "greater than 0"),
        (
            {"observe": np.zeros(1), "operator": {"name": "stations", "positions": [[0, 3.5]]}},
            "lies at axis1 3.5, outside the grid, which goes from 0 to 3",
        ),
        (
            {"observe": np.zeros(1), "operator": {"name": "stations", "positions": [[1]]}},
            "has 1 numbers; it must have 2: axis0, axis1",
        ),
        ({"observe": np.zeros(1), "operator": lambda x: x.sum()}, "must give a tensor"),
        ({"observe": np.zeros(1), "operator": lambda x: x.detach().sum(1)}, "cannot be derived"),
        ({"observe": np.zeros(1), "operator": lambda x: x @ x.new_zeros(5)}, "operator fails"),
        (
            {"observe": np.zeros(1), "operator": lambda x: x.flatten(1)[:, :1]},
            "`noise_std` is missing",
        ),
        ({"observe": {"file": "y.npy"}}, "no array of real numbers"),
        ({"observe": [[1.0], [1.0, 2.0]]}, "no array of real numbers"),
        ({"method": "dps"}, "give it as `observe`"),
        ({"noise_std": 1.0}, "give it as `observe`"),
        ({"observe": SOME, "template": {"name": "chains", "lengths": [4]}}, "at the same time"),
    ],
)
def test_a_mistake_says_what_was_found_and_how_to_mend_it(given, message) -> None:
    model = TrainedModel(_recipe(), FIELD.sampler(), {})
    with pytest.raises(UserError, match=message):
        model.sample(2, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "model"}, r"rawdiff\.load"),
        ({"labels": [3]}, "`label` is"),
        ({"num_frames": 2}, ""),
    ],
)
def test_a_setting_that_would_do_nothing_here_is_refused(given, message) -> None:
    model = TrainedModel(_recipe(), FIELD.sampler(), {})
    with pytest.raises(UserError, match=f"no argument of `model.sample`: .*{message}"):
        model.sample(2, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"observe": np.full((1, 4, 4), 1e30)},
        {"observe": SOME, "noise_std": 1e-30},
        {"observe": np.zeros(1), "operator": lambda x: x.mean((1, 2, 3))[:, None]},
    ],
)
@pytest.mark.parametrize("method", ["mmps", "dps"])
def test_an_observation_that_float32_cannot_weigh_is_not_silently_left_out(given, method) -> None:
    model = TrainedModel(_recipe(), FIELD.sampler(), {})
    with pytest.raises(UserError, match="32-bit numbers cannot weigh"):
        model.sample(2, **({"noise_std": 1e-30} | given), method=method)


def test_more_than_memory_holds_is_refused_before_it_is_taken(monkeypatch) -> None:
    values = np.broadcast_to(np.float32(0), (10**9, 1, 4, 4))  # 60 GiB, were it not repeated
    monkeypatch.setattr(memory, "host_memory", lambda: 2**32)
    with pytest.raises(UserError, match=r"would take 59\.6 GiB"):
        TrainedModel(_recipe(), FIELD.sampler(), {}).sample(10**9, observe=values)


def test_a_table_of_stations_brings_its_positions(tmp_path) -> None:
    path = tmp_path / "stations.csv"
    path.write_text("lon, lat, q\n45,60,1e-5\n90,30,\n350,0,2e-5\n")
    stations, values = observe.read_stations(path, INFO, GRID)
    assert stations.positions == ((60.0, 45.0), (30.0, 90.0), (0.0, 350.0))
    expected = [[np.nan] * 3, [1e-5, np.nan, 2e-5]]
    np.testing.assert_allclose(values, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lon,q\n45,1\n", "no column `lat`; it has: lon, q"),
        ("lon,lat,w\n45,60,1\n", "a column `w`, which is none of lat, lon, t, q"),
        ("lon,lat\n45,60\n", "holds no values"),
        ("lon,lat,q\n", "holds no values"),
        ("lon,lat,q\n45,60,1\nx,0,2\n", "line 3: `lon` is 'x', no number"),
        ("lon,lat,q\n45,60,1\n45,,1\n", "line 3: a station without a place"),
        ("lon,lat,q\n45,60,1\n\n45,95,1\n", "line 4: the station lies at lat 95, outside"),
        ("lon,lat,q\n45,inf,1\n", "line 2: `lat` is 'inf', no number"),
        ("lon,lat,q\n\n45,60,x\n", "line 3: `q` is 'x'"),
        ("lon,lat,q\n45,60,3,5\n", "line 2: more cells than the 3 columns"),
        ("lon,lat,q,q\n45,60,3,5\n", "two columns `q`"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path, text, message) -> None:
    path = tmp_path / "stations.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        observe.read_stations(path, INFO, GRID)


def test_a_file_of_another_kind_or_with_several_arrays_names_a_cure_of_its_own(tmp_path) -> None:
    np.savez(tmp_path / "y.npz", a=SOME, b=SOME)
    for name, message in (("y.txt", r"\.hdf5, \.csv\."), ("y.npz", "name it `x` there")):
        settings = observe.ObserveSettings(file=tmp_path / name)
        with pytest.raises(UserError, match=message):
            observe.observe(settings, 2, 2, INFO, GRID)


def test_netcdf_is_refused_with_the_line_that_makes_an_observation_of_it(
    tmp_path, monkeypatch
) -> None:
    xarray = pytest.importorskip("xarray")
    monkeypatch.chdir(tmp_path)
    y = np.arange(64, dtype=np.float32).reshape(2, 4, 8)
    fields = {name: (("lon", "lat"), y[i].T) for i, name in enumerate(INFO.channels)}
    coordinates = {name: list(values) for name, values in INFO.coordinates.items()}
    xarray.Dataset(fields, coordinates).to_netcdf("obs.nc")
    settings = observe.ObserveSettings(file="obs.nc")
    with pytest.raises(UserError, match="lat from 60 to 0; lon from 0 to 315") as caught:
        observe.observe(settings, 2, 2, INFO, GRID)
    line = str(caught.value).partition("with xarray: ")[2]
    exec(line, {"numpy": np, "xarray": xarray})
    settings = observe.ObserveSettings(file="y.npy")
    _, found = observe.observe(settings, 2, 2, INFO, GRID)
    assert np.array_equal(found[0], y)


def test_masked_values_were_not_seen() -> None:
    values = np.ma.masked_greater(np.full(INFO.shape, 7.0), 6)
    values[0, 0] = 5.0
    _, y = observe.observe(observe.ObserveSettings(), 1, 1, INFO, GRID, values)
    assert bool((y[0, 0, 0] == 5).all())
    assert bool(y[0, :, 1:].isnan().all())


def test_samples_that_nothing_is_observed_of_are_not_drawn_silently() -> None:
    settings = SampleSettings(observe={})
    with pytest.raises(UserError, match="nothing is observed of these samples"):
        FIELD.sampler().draw(torch.arange(2), Conditions(), settings)
    assert settings.like_real().observe is None


def test_settings_with_an_observation_can_be_written_and_read_again() -> None:
    settings = SampleSettings(
        observe={"operator": {"name": "coarsen", "factor": 2}, "method": "dps", "noise_std": 0.5}
    )
    text = json.dumps(settings.model_dump(mode="json"))
    assert SampleSettings.model_validate(json.loads(text)) == settings
