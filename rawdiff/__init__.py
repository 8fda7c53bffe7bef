"""rawdiff: train generative models on raw data of any modality."""

__version__ = "0.1.0"

from rawdiff.errors import UserError
from rawdiff.run import TrainedModel, load

__all__ = ["TrainedModel", "UserError", "load"]
