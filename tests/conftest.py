"""Where tests find real data, and how much of the machine they may take."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(int(os.environ.get("RAWDIFF_TEST_THREADS", "1")))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    folder = os.environ.get("RAWDIFF_TEST_DATA")
    if not folder:
        pytest.skip("RAWDIFF_TEST_DATA does not name the folder of real data")
    return Path(folder).resolve()
