"""A network as a program of torch.export: the same function, run by torch alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from rawdiff_toy.mlp import MLPSettings
from runs import small_recipe, write_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rawdiff import load
from rawdiff.cli.main import main
from rawdiff.errors import UserError
from rawdiff.exchange import program
from rawdiff.exchange.checkpoints import import_model
from rawdiff.exchange.program import TorchExport, export_network, random_inputs
from rawdiff.grid import PatchGrid, regular_axes
from rawdiff.model.network import Interface
from rawdiff.model.transformer import TransformerSettings

ELSEWHERE = """
import json, sys
import torch
from safetensors.torch import load_file, save_file

facts = {"rawdiff.json": ""}
network = torch.export.load(sys.argv[1], extra_files=facts).module()
for path in sys.argv[2:]:
    save_file({"output": network(**load_file(path))}, path + ".out")
assert not any(name.partition(".")[0] == "rawdiff" for name in sys.modules)
print(json.dumps(json.loads(facts["rawdiff.json"])))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of samples with gaps, classes and scalars: everything that a network can be told at once."""
    folder = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 2, 6, 6)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    arrays = {"labels": random.integers(0, 3, 30), "scalars": random.normal(size=(30, 2))}
    recipe = small_recipe(folder, write_arrays(folder, x=x, **arrays), [2, 2])
    assert main(["train", str(recipe), "train.num_steps=3"]) == 0
    return folder / "run"


def _network(model, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.sampler.network(**inputs)


def test_the_program_gives_what_the_network_gives_in_a_process_without_rawdiff(
    run, tmp_path
) -> None:
    file = tmp_path / "network.pt2"
    assert main(["export", str(run), str(file), "--format", "torch_export"]) == 0
    model = load(run, device="cpu")
    batches = {
        num: random_inputs(num, model.sampler.patcher, model.sampler.info) for num in (1, 2, 7)
    }
    assert {"label", "scalars", "extra", "present"} <= batches[1].keys()
    for num, inputs in batches.items():
        save_file(inputs, tmp_path / f"{num}")
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE)
    command = [sys.executable, script, file, *(tmp_path / f"{num}" for num in batches)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for num, inputs in batches.items():
        expected, found = _network(model, inputs), load_file(tmp_path / f"{num}.out")["output"]
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    facts = json.loads(done.stdout)
    assert facts["inputs"]["z_t"] == {"shape": ["batch", 9, 8], "dtype": "float32"}
    assert facts["mean"] == model.sampler.patcher.statistics.x.mean.tolist()


SMALL = TransformerSettings(width=16, depth=2, heads=2, in_context_len=2, in_context_start=1)
TOLD = {
    "label": lambda num: torch.arange(num) % 4,
    "scalars": lambda num: torch.randn(num, 2),
    "extra": lambda num: torch.randn(num, 6, 5),
    "present": lambda num: torch.arange(6) < 5 + torch.zeros(num, 1),
    "positions": lambda num: torch.randn(num, 6, 2),
}


@pytest.mark.parametrize("told", [(), ("label",), ("label", "scalars"), tuple(TOLD)], ids=str)
@pytest.mark.parametrize("settings", [SMALL, MLPSettings(width=16)], ids=["transformer", "mlp"])
def test_any_number_of_samples_goes_in_whatever_they_are_told(settings, told) -> None:
    interface = Interface(
        patch_dim=4,
        num_classes=3 * ("label" in told),
        num_scalars=2 * ("scalars" in told),
        extra_dim=5 * ("extra" in told),
    )
    grid = PatchGrid(regular_axes(("y", "x"), (4, 6), (2, 2)))
    network = settings.build(interface, grid)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)

    def inputs(num: int) -> dict[str, Tensor]:
        z_t, t = torch.randn(num, 6, 4), torch.rand(num)
        return {"z_t": z_t, "t": t} | {name: TOLD[name](num) for name in told}

    run = export_network(network, inputs(3)).module()
    for num in (1, 2, 5):
        given = inputs(num)
        torch.testing.assert_close(run(**given), network(**given), rtol=0, atol=1e-5)


def test_a_program_that_is_another_function_is_not_written(
    run, tmp_path, monkeypatch, capsys
) -> None:
    def another(network, inputs):
        exported = export_network(network, inputs)
        bias = "last_layer.linear.bias"
        exported.state_dict[bias] = torch.nn.Parameter(exported.state_dict[bias] + 0.1)
        return exported

    monkeypatch.setattr(program, "export_network", another)
    file = tmp_path / "network.pt2"
    assert main(["export", str(run), str(file), "--format", "torch_export"]) == 2
    assert "is another function: it is off by 0.1" in capsys.readouterr().err
    assert not file.exists()


class Branching(nn.Module):
    """What it computes depends on values."""

    def forward(self, z_t, t):
        return z_t if t.sum() > 0 else -z_t


def test_a_network_that_torch_cannot_express_is_named() -> None:
    inputs = {"z_t": torch.ones(2, 3, 4), "t": torch.ones(2)}
    with pytest.raises(UserError, match="cannot express Branching"):
        export_network(Branching(), inputs)


def test_the_way_back_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="`rawdiff export RUN FOLDER`"):
        import_model(TorchExport(), tmp_path / "network.pt2", tmp_path / "out")
