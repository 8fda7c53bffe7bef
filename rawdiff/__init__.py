"""rawdiff: train generative models on raw data of any modality."""

from rawdiff.errors import UserError
from rawdiff.run import TrainedModel, load
from rawdiff.version import __version__

__all__ = ["TrainedModel", "UserError", "__version__", "load"]
