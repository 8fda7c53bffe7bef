"""A second network behind the same flow, loop, sampler and checkpoints."""

import signal
from pathlib import Path

import pytest
import torch
import yaml
from bases import noise
from rawdiff_toy.mlp import MLP, MLPSettings, time_features
from runs import checkpoint_tensors, metrics, signal_at_step, start

from rawdiff.exchange.export import export
from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.network import Interface
from rawdiff.recipe_file import load_recipe
from rawdiff.results import evaluate_run, sample_run
from rawdiff.run import load
from rawdiff.train.start import train

RECIPE = Path(__file__).parents[2] / "recipes" / "figure2.yaml"
SMALL = ["data.num_dims=8", "train.num_steps=60", "train.log_every=1", "checkpoint.every_steps=5"]


def network(num_patches: int = 3, **interface: int) -> MLP:
    grid = PatchGrid((Axis.regular("along", num_patches),))
    built = MLPSettings(width=16, depth=3).build(Interface(patch_dim=4, **interface), grid)
    built.initialize(0)
    torch.nn.init.normal_(built.last_layer.weight, generator=torch.Generator().manual_seed(0))
    return built


def test_the_first_weights_are_a_function_of_seed_and_name() -> None:
    a, b, c = (MLPSettings(width=32).build(Interface(4), network().grid) for _ in range(3))
    for one, seed in ((a, 0), (b, 0), (c, 1)):
        one.initialize(seed)
    first, same, other = (one.state_dict() for one in (a, b, c))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])
    assert not torch.equal(first["layers.1.weight"], first["layers.2.weight"])
    assert first["layers.2.weight"].var().item() == pytest.approx(2 / 32, rel=0.1)
    assert torch.equal(a(noise(2, 3, 4), torch.rand(2)), torch.zeros(2, 3, 4))


def test_the_paper_s_network_has_five_layers_of_256_units() -> None:
    layers = [
        module
        for module in MLPSettings().build(Interface(512), network(1).grid).modules()
        if isinstance(module, torch.nn.Linear)
    ]
    assert [layer.out_features for layer in layers] == [256, 256, 256, 256, 512]
    assert layers[0].in_features == 512 + 32


def test_time_features_are_cosines_and_sines_of_half_turns() -> None:
    features = time_features(torch.tensor([0.0, 0.5, 1.0]), 2)
    expected = [[1, 1, 0, 0], [0, -1, 1, 0], [-1, 1, 0, 0]]
    assert torch.allclose(features, torch.tensor(expected).float(), atol=1e-6)


@pytest.mark.parametrize("changed", ["z_t", "t", "label", "scalars", "extra"])
def test_every_input_reaches_every_output_of_its_own_sample_alone(changed) -> None:
    net = network(num_classes=3, num_scalars=2, extra_dim=1)

    def inputs() -> dict[str, torch.Tensor]:
        return {
            "z_t": noise(2, 3, 4, seed=1),
            "t": torch.tensor([0.2, 0.7]),
            "label": torch.tensor([0, 1]),
            "scalars": noise(2, 2, seed=2),
            "extra": noise(2, 3, 1, seed=3),
        }

    other = inputs()
    other[changed][1] += 1
    before, after = net(**inputs()), net(**other)
    assert before.shape == (2, 3, 4)
    assert torch.equal(before[0], after[0])
    assert (before[1] != after[1]).all()


def test_no_label_and_unknown_scalars_are_what_is_left_out() -> None:
    net = network(num_classes=3, num_scalars=2)
    z_t, t = noise(2, 3, 4), torch.tensor([0.2, 0.7])
    none = net(z_t, t, torch.tensor([3, 3]), scalars=torch.full((2, 2), torch.nan))
    assert torch.equal(net(z_t, t), none)


def trained_run(run: Path, *overrides: str) -> Path:
    train(load_recipe(RECIPE, [*SMALL, *overrides, f"run_dir={run}"]), say=lambda _: None)
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return trained_run(tmp_path_factory.mktemp("toy") / "run")


def test_a_killed_run_goes_on_bit_for_bit(trained, tmp_path) -> None:
    run = tmp_path / "run"
    process = start("train", RECIPE, *SMALL, f"run_dir={run}")
    signal_at_step(process, run, 12, signal.SIGKILL)
    assert not (run / "checkpoints" / "step-00000060").exists()
    trained_run(run)
    first, second = checkpoint_tensors(run, 60), checkpoint_tensors(trained, 60)
    assert any(name.startswith("optimizer") for name in first)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert [line["loss"] for line in metrics(run)] == [line["loss"] for line in metrics(trained)]


def test_a_short_training_brings_samples_to_the_curve(trained, tmp_path) -> None:
    def scores(run: Path) -> dict[str, float]:
        overrides = ["evaluate.num_samples=300", "sample.num_steps=10"]
        report = evaluate_run(run, overrides, say=lambda _: None)
        assert report.scores["curve/distance"]["real held-out"] < 1e-5
        return {name: row["generated"] for name, row in report.scores.items()}

    before = scores(trained_run(tmp_path / "run", "train.num_steps=1", "flow.prediction=v"))
    after = scores(trained)
    assert set(after) == {"curve/distance", "curve/off_plane", "curve/gap"}
    assert all(after[name] < 0.5 * before[name] for name in after)


def test_a_run_is_sampled_drawn_and_exported_as_any_other(trained, tmp_path) -> None:
    folder = sample_run(trained, ["sample.num_samples=30"], out=tmp_path / "s", say=lambda _: None)
    assert (folder / "picture.png").is_file()
    export(trained, tmp_path / "export", say=lambda _: None)
    model = load(tmp_path / "export", say=lambda _: None)
    assert model.recipe.model == MLPSettings()
    drawn = load(trained, say=lambda _: None).sample(3)
    assert drawn.shape == (3, 8, 1)
    assert torch.equal(model.sample(3), drawn)


def test_the_recipe_gives_all_three_predictions_the_same_budget() -> None:
    content = yaml.safe_load(RECIPE.read_text())
    assert content["flow"]["loss"] == "v"
    assert content["standardization"] == {"mode": "none"}
    assert content["model"] == {"name": "mlp", "width": 256, "depth": 5}
