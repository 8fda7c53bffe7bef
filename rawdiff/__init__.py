"""rawdiff: train generative models on raw data of any modality."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rawdiff.errors import UserError
from rawdiff.version import __version__

if TYPE_CHECKING:
    from rawdiff.run import TrainedModel, load

__all__ = ["TrainedModel", "UserError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `TrainedModel` come when they are asked for: `rawdiff --help` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module `rawdiff` has no attribute `{name}`")
    return getattr(import_module("rawdiff.run"), name)


def __dir__() -> list[str]:
    return __all__
