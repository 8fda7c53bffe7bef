"""rawdiff is small to install and quick to answer: nothing is imported before it is needed."""

import argparse
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rawdiff.cli import completion, kit, lookup, models, training
from rawdiff.cli.parser import make_parser

HEAVY = ("torch", "numpy", "pydantic", "PIL", "h5py", "zarr", "rawdiff.cli.models")


@pytest.mark.parametrize(
    "program",
    [
        "import rawdiff",
        "from rawdiff.cli.main import main; main(['--help'])",
        "from rawdiff.cli.main import main; main(['train', '--help'])",
        "from rawdiff.cli.main import main; main(['trian'])",
        "from rawdiff.cli.completion import keys; keys('train.')",
    ],
)
def test_what_needs_no_torch_does_not_wait_for_it(program: str) -> None:
    report = f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    script = f"import sys\ntry:\n    {program}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_what_the_package_offers_is_there_when_it_is_asked_for() -> None:
    import rawdiff  # whole, as a user writes it

    assert all(getattr(rawdiff, name) is not None for name in rawdiff.__all__)
    assert {"load", "TrainedModel"} <= {*dir(rawdiff)}
    with pytest.raises(AttributeError, match="no attribute `laod`"):
        rawdiff.laod  # noqa: B018


def test_every_command_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked up when they are called: a misspelt one would be seen too late."""
    called: list[str] = []
    for module in (models, training, lookup, kit, completion):
        for name in (name for name in dir(module) if name.startswith("do_")):
            monkeypatch.setattr(module, name, lambda args, name=name: called.append(name))
    _, parsers = make_parser()
    for parser in parsers.values():
        parser.get_default("function")(argparse.Namespace(quiet=False))
    assert called == [f"do_{name.replace('-', '_')}" for name in parsers]


def _closure(package: str) -> set[str]:
    """All that an installation of the package without extras brings, itself too."""
    found: set[tuple[str, str]] = set()
    wanted = {(canonicalize_name(package), "")}
    while wanted:
        name, extra = one = wanted.pop()
        found.add(one)
        for line in requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                each = {(canonicalize_name(needed.name), e) for e in ("", *needed.extras)}
                wanted |= each - found
    return {name for name, _ in found}


def test_an_installation_brings_at_most_25_packages_beyond_torch_and_its_own() -> None:
    try:
        brought = _closure("rawdiff") - _closure("torch") - {"rawdiff"}
    except PackageNotFoundError as error:  # another build of torch may need what is not here
        pytest.skip(f"{error.name} is not installed, so what it brings cannot be counted")
    assert {"numpy", "einops", "zarr"} <= brought
    assert len(brought) <= 25, sorted(brought)
