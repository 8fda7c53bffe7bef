"""rawdiff: train generative models on raw data of any modality."""

__version__ = "0.1.0"
