"""A plug-in that cannot be used is named with the package that brings it."""

import sys

import pytest

from rawdiff import plugins
from rawdiff.errors import UserError
from rawdiff.recipe_file import parse_recipe

SOURCE = """
from rawdiff.adapter import Adapter
from rawdiff.data.arrays import ArrayDataset

class Half(Adapter):
    def patchify(self, x):
        return x

nothing = dict
"""


@pytest.fixture(autouse=True)
def odd(tmp_path, monkeypatch):
    """A package with all kinds of mistakes, beside rawdiff."""
    facts = tmp_path / "odd-3.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Name: odd\nVersion: 3.1\n")
    (facts / "entry_points.txt").write_text(
        "[rawdiff.adapters]\nhalf = odd:Half\nnothing = odd:nothing\nother = odd:ArrayDataset\n"
        "gone = odd:Gone\n[rawdiff.writers]\npaper = odd:Paper\n"
    )
    (tmp_path / "odd.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    plugins._entry_points.cache_clear()
    yield
    plugins._entry_points.cache_clear()
    sys.modules.pop("odd", None)


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({"name": "half"}, r"`half` of odd 3.1 .*abstract class Half"),
        ({"name": "nothing"}, r"`nothing` of odd 3.1 .*must be a class that derives.*makes a dict"),
        ({"name": "other", "path": "x.npy"}, r"must be of the kind Adapter.*arrays.ArrayDataset"),
        ({"name": "gone"}, r"`gone` of odd 3.1 .*cannot be imported: AttributeError.*Mend or"),
    ],
)
def test_what_is_no_adapter_is_named_with_its_package(adapter, said) -> None:
    content = {
        "run_dir": "runs/odd",
        "data": {"name": "digits"},
        "adapter": adapter,
        "train": {"num_steps": 1, "batch_size": 1},
    }
    with pytest.raises(UserError, match=f"(?s){said}"):
        parse_recipe(content, "odd.yaml")


def test_plugins_of_others_are_listed_with_their_packages() -> None:
    found = plugins.plugins_of_others()
    assert found["adapters"]["half"] == found["writers"]["paper"] == "odd 3.1"
    assert "grid" not in found["adapters"]
