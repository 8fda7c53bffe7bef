"""What readers of the pages about molecules and weather have: chains, pockets, and the sea."""

import contextlib
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr
import yaml
from chain_files import write_chain, write_chains
from molecule_files import packed
from pocket_files import AT, PROTEIN, residue, write_ligands, write_proteins
from rdkit import Chem
from stage import ROOT, Stage, blocks

from rawdiff.cli.main import main
from rawdiff.recipe_file import merge

SMALL = {"width": 32, "depth": 1, "heads": 2, "bottleneck": None, "in_context_len": 0}
TRAIN = {"num_steps": 2, "batch_size": 4, "tensorboard": False, "picture_every": None}
WHOLE = {"mode": "fixed", "mean": 0, "std": 10}
CHAINS: dict[str, Any] = {
    "data": {"name": "backbones", "path": "chains", "min_length": 40, "max_length": 100},
    "adapter": {"name": "residue1d"},
    "standardization": WHOLE,
    "evaluate": {"evaluators": {"backbones": {"num_samples": 4, "num_compared": 2}}},
}
PLACE = (12.1, -3.4, 40.2)
"""The middle of the pocket in `protein.pdb`."""


def _recipe(name: str, **sections: object) -> dict[str, Any]:
    """For a small model in `runs/NAME`."""
    return {"run_dir": f"runs/{name}", "model": SMALL, "train": TRAIN, **sections}


def _train(name: str, **sections: object) -> None:
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump(_recipe(name, **sections)))
    assert main(["prepare", str(path)]) == 0
    assert main(["train", str(path)]) == 0


def trained_backbones(folder: Path) -> None:
    """A model in `runs/chains`, and `1abc.pdb`, a chain A of 80 residues."""
    with contextlib.chdir(folder):
        _chains()
        _train("chains", **CHAINS)


def _chains() -> None:
    write_chains(Path("chains"), [42 + 4 * i for i in range(12)])
    write_chain(Path("1abc.pdb"), 80)


def _backbones_of_somebody_else(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["coordinates"] = np.random.default_rng(0).normal(size=(12 * 45, 4, 3))
        file["offsets"] = 45 * np.arange(13)
        file["sequence"] = np.array([b"A"] * 12 * 45)
        file["id"] = [f"chain{i}" for i in range(12)]


def _ligands_as_sdf(source: Path, target: Path) -> None:
    """The frames of an XYZ file, each with its id as title."""
    with Chem.SDWriter(str(target)) as writer:
        for frame in source.read_text().split("\n4\n"):
            molecule = Chem.MolFromXYZBlock("4\n" + frame.removeprefix("4\n"))
            molecule.SetProp("_Name", frame.removeprefix("4\n").split("\n")[0])
            writer.write(molecule)


def _prepare_shown(bases: Mapping[str, dict[str, Any]]) -> None:
    """As a reader does with the page's recipes before `rawdiff check`."""
    for block in blocks(ROOT / "docs" / "molecules.md", "yaml"):
        path = Path(f"{block.heading}.yaml")
        path.write_text(yaml.safe_dump(merge(bases[block.heading], yaml.safe_load(block.text))))
        assert main(["prepare", str(path)]) == 0


def molecules(folder: Path) -> Stage:
    names = [f"m{i}" for i in range(12)]
    bases = {
        "Molecules as densities": _recipe("densities"),
        "Pockets": _recipe("pockets", adapter={"name": "mol3d", "patch_size": 10}),
        "Arrays of another HDF5 file": _recipe(
            "arrays", adapter={"name": "residue1d"}, standardization=WHOLE
        ),
    }
    with contextlib.chdir(folder):
        _chains()
        ligands = write_ligands(Path(), names)
        Path("qm9.xyz.gz").write_bytes(gzip.compress(ligands.read_bytes()))
        packed(ligands, Path("entries.h5"), "molecules")
        _ligands_as_sdf(ligands, Path("ligands.sdf"))
        write_proteins(Path("proteins"), dict.fromkeys(names, PROTEIN))
        away = np.array(PLACE) - AT
        write_proteins(Path(), {"protein": [*residue(away + 4, 1), *residue(away - 5, 2)]})
        _backbones_of_somebody_else(Path("cgdms_backbones.h5"))
        Path("chains.yaml").write_text(yaml.safe_dump(_recipe("chains", **CHAINS)))
        _train(
            "pairs",
            data={"name": "pair_maps", "path": "chains", "min_length": 40, "max_length": 64},
            adapter={"name": "pairmap2d", "patch_size": 16},
        )
        _prepare_shown(bases)
        assert main(["train", "Pockets.yaml"]) == 0
    return Stage(
        folder,
        stand_ins={"RECIPE": "chains.yaml", "FILES": "chains", "RUN": "runs/chains"},
        scenes={
            "Pockets": {"RUN": "runs/pockets"},
            "Distance maps": {"RUN": "runs/pairs"},
        },
        few={
            "rawdiff_molecules.dictionary": "--heavy-atoms 4",
            "train recipes/molecules_demo.yaml": "model.width=32 model.depth=1 model.heads=2",
            "eval runs/molecules_demo": "evaluate.evaluators.molecules.num_samples=4",
        },
        bases=bases,
    )


def _fields(name: str, times: pd.DatetimeIndex, rows: int, **levels: list[int]) -> xr.Dataset:
    """Noise on a globe of `rows` latitudes and twice as many longitudes."""
    step = 180 / rows
    sizes = {"time": len(times), **{key: len(of) for key, of in levels.items()}}
    shape = (*sizes.values(), rows, 2 * rows)
    values = 280 + np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return xr.Dataset(
        {name: ((*sizes, "latitude", "longitude"), values, {"units": "K"})},
        coords={
            "time": times,
            **levels,
            "latitude": np.linspace(90 - step / 2, -90 + step / 2, rows),
            "longitude": step * np.arange(2 * rows),
        },
    )


def weather(folder: Path) -> Stage:
    months = pd.date_range("1950-01-01", "1999-12-01", freq="MS")
    _fields("sst", months, 12).to_netcdf(folder / "sst_monthly.nc")
    days = pd.date_range("2020-01-01", periods=40, freq="D")
    for name, rows in (("fine", 16), ("coarse", 8)):
        _fields("temperature", days, rows, level=[500, 850]).to_zarr(folder / f"{name}.zarr")
    small = "model.width=32 model.depth=1 model.heads=2 model.bottleneck=8 model.in_context_len=0"
    return Stage(
        folder,
        stand_ins={
            "RECIPE": "'Weather and climate.yaml'",
            "50": "2",
            "1999-12": "1998-06",
            "2004-10-01T00": "2001-01-08",
        },
        elsewhere={"pip install rawdiff[weather]": "it is there"},
        few={
            "train": small,
            "rawdiff_weather.generated data/flow.zarr": "--days 12",
            "rawdiff_weather.generated flow.zarr": "--days 2 --latitudes 16",
            "train recipes/weather_demo.yaml": "'data.time=[2001-01-01, 2001-01-07]' "
            "'holdout.data.time=[2001-01-08, 2001-01-12]'",
            "eval runs/weather_demo": "'evaluate.evaluators.forecast={num_inits: 2, num_steps: 4, "
            "num_members: 2, climatology: false}'",
        },
        bases={
            "Forecasts": _recipe(
                "refined",
                data={"time": ["2020-01-01", "2020-01-31"], "past": 0},
                adapter={"name": "weather", "patch_size": [4, 4]},
            ),
            "Scores": _recipe(
                "scored",
                data={"name": "weather", "path": "sst_monthly.nc", "variables": ["sst"]},
                adapter={"name": "weather", "patch_size": [6, 6]},
            ),
        },
    )
