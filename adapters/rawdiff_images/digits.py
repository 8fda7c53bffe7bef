"""Handwritten digits that come with scikit-learn: a data set of 8 × 8 pixels without a download."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from rawdiff.data.dataset import DataInfo, Dataset, Sample
from rawdiff.errors import UserError


class Digits(Dataset):
    """1,797 digits, uint8 [1, 8, 8]: of 4 × 4 dots, how many are inked, from 0 to 16.

    (Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI, CC BY 4.0)
    """

    @property
    def info(self) -> DataInfo:
        return DataInfo(
            shape=(1, 8, 8),
            channels=("ink",),
            units=("dots of 16",),
            class_names=tuple("0123456789"),
            value_range=(0, 16),
            writer="png",
        )

    def __len__(self) -> int:
        return len(self._digits.images)

    def __getitem__(self, index: int) -> Sample:
        x = self._digits.images[index].astype(np.uint8)[None]
        return Sample(x=x, label=int(self._digits.target[index]))

    @cached_property
    def _digits(self) -> Any:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise UserError(
                "The digits come with scikit-learn, which is not installed. "
                "Run `pip install rawdiff[demo]`."
            ) from error
        return load_digits()
