"""A model goes to others with a card that says all of it, and comes back as a module of torch."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import hub_mixin
from runs import small_recipe, write_arrays
from safetensors import safe_open

from rawdiff import UserError, load
from rawdiff.cli.main import main
from rawdiff.data.dataset import DataInfo
from rawdiff.exchange import card, hub
from rawdiff.exchange.card import CITATION
from rawdiff.exchange.hub import PretrainedModel


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    random = np.random.default_rng(0)
    x = random.normal(5, 2, size=(40, 2, 8)).astype(np.float32)
    data = write_arrays(folder, x=x, labels=random.integers(0, 3, 40))
    recipe = small_recipe(folder, data, [2], holdout={"fraction": 0.25})
    keys = ["data.channels=[wind,rain]", "data.units=[m/s,mm]", "train.num_steps=5"]
    assert main(["train", str(recipe), *keys]) == 0
    assert main(["eval", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run) -> Path:
    out = run.parent / "exported"
    assert main(["export", str(run), str(out), "--license", "cc-by-4.0"]) == 0
    return out


def test_the_card_has_scores_recipe_data_licence_and_citation(run, exported) -> None:
    page = (exported / "README.md").read_text()
    _, metadata, text = page.split("---\n", 2)
    assert yaml.safe_load(metadata)["license"] == "cc-by-4.0"
    assert yaml.safe_load(metadata)["library_name"] == "rawdiff"
    statistics = load(run).sampler.patcher.statistics.x
    assert f"| wind | m/s | {statistics.mean[0]:.5g} | {statistics.std[0]:.5g} |" in text
    assert "30 training samples" in text
    scores = json.loads((run / "scores.json").read_text())["scores"]
    for name, row in scores.items():
        assert f"| {name} | {row['generated']:.4g} | {row['real held-out']:.4g} |" in text
    recipe = text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(recipe) == yaml.safe_load((exported / "recipe.yaml").read_text())
    assert CITATION in text


def test_the_card_draws_samples_of_several_places_as_given_ones() -> None:
    info = DataInfo((1, 4), ("a",), class_names=("x", "y"), place_names=("time",))
    assert 'model.sample(4, template="given")' in card._use(info)
    assert "model.sample(4, label=0)" in card._use(replace(info, place_names=()))


def test_scores_of_other_weights_are_not_those_of_the_model(run, tmp_path) -> None:
    for weights in ("decay_0.9", "model"):
        assert main(["export", str(run), str(tmp_path / weights), "--weights", weights]) == 0
        assert "None are known of these weights" in (tmp_path / weights / "README.md").read_text()
        assert not (tmp_path / weights / "scores.json").exists()


def test_a_module_is_the_model_and_comes_back_from_its_folder(run, exported, tmp_path) -> None:
    model = PretrainedModel.from_pretrained(exported, device="cpu")
    expected = load(run, device="cpu").sample(3, label=1)
    assert torch.equal(model.sample(3, label=1), expected)
    model.save_pretrained(tmp_path / "again")
    for name in hub.EXPORTED:
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes(), name
    again = PretrainedModel.from_pretrained(tmp_path / "again", device="cpu")
    assert torch.equal(again.sample(3, label=1), expected)
    assert torch.equal(load(tmp_path / "again", device="cpu").sample(3, label=1), expected)


def test_a_module_trains_in_a_loop_of_ones_own_and_is_saved_as_it_is(exported, tmp_path) -> None:
    model = PretrainedModel.from_pretrained(exported, device="cpu")
    before = model.sample(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    z_t, t = torch.randn(4, 4, 4), torch.rand(4)
    (model(z_t, t, torch.arange(4)) - z_t).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.sample(2), before)
    model.save_pretrained(tmp_path / "own")
    again = PretrainedModel.from_pretrained(tmp_path / "own", device="cpu")
    assert torch.equal(again.sample(2), model.sample(2))
    with safe_open(tmp_path / "own" / "model.safetensors", framework="pt") as file:
        assert file.metadata()["weights"] == "power_0.1, trained on"
    assert "None are known of these weights" in (tmp_path / "own" / "README.md").read_text()
    with pytest.raises(UserError, match="give another"):
        model.save_pretrained(exported)


def test_a_model_goes_to_a_hub_and_comes_from_it(exported, tmp_path, monkeypatch) -> None:
    """A folder stands in for the hub, where huggingface_hub would speak with a server."""

    class Server:
        def __init__(self, token=None) -> None:
            pass

        def create_repo(self, repo_id, **options):
            (tmp_path / repo_id).mkdir(parents=True)
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, **options):
            shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)
            return repo_id

    def snapshot(repo_id, *, allow_patterns, **options) -> str:
        folder = tmp_path / "cache"
        folder.mkdir()
        for name in allow_patterns:
            shutil.copyfile(tmp_path / repo_id / name, folder / name)
        return str(folder)

    monkeypatch.setattr(hub_mixin, "HfApi", Server)
    monkeypatch.setattr(
        hub_mixin, "hf_hub_download", lambda repo_id, filename, **_: tmp_path / repo_id / filename
    )
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    model = PretrainedModel.from_pretrained(exported, device="cpu")
    assert model.push_to_hub("somebody/waves") == "somebody/waves"
    again = PretrainedModel.from_pretrained("somebody/waves", device="cpu")
    assert torch.equal(again.sample(2), model.sample(2))
