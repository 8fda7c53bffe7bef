"""Do an adapter and a dataset keep their promises? For the tests of those who write them."""

from rawdiff.testing.adapter import check_adapter
from rawdiff.testing.dataset import check_dataset
from rawdiff.testing.promise import BrokenPromiseError

__all__ = ["BrokenPromiseError", "check_adapter", "check_dataset"]
