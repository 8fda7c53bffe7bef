"""A template of whole samples: held-out ones, those of a file, or those of any dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import model_validator

from rawdiff.data.array_files import open_array
from rawdiff.data.dataset import DataInfo, Dataset, Sample
from rawdiff.data.template import RealSamples, Template, Wanted
from rawdiff.errors import UserError
from rawdiff.plugins import plugin_field


class GivenTemplate(Template):
    """Samples that begin from given ones: `sample.start` says at which time, nothing is kept.

    New sample i begins from given sample i, in turn where there are fewer. They are the held-out
    samples of the recipe, those in `file`, or those of `data`. Labels, scalars and context are
    those of the given samples.
    """

    file: Path | None = None
    """Values [n, C, …] in data units: .npy, .npz (the only array, or `x`), .zarr or .h5."""
    data: Annotated[Dataset | None, *plugin_field("datasets")] = None
    """A dataset, such as `{name: image_folder, path: photos, size: 64}`."""
    label: int | None = None
    """Class of all new samples, counted from 0 (default: those of the given ones). [class]"""

    @model_validator(mode="after")
    def _one_source(self) -> GivenTemplate:
        if self.file is not None and self.data is not None:
            raise ValueError("give either `file` or `data`, not both")
        return self

    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        if info.stored_shape is not None:
            raise UserError(
                "Samples of these data are made of something else (atoms become a density), which "
                "`template: given` does not do."
            )
        sample = self._of_file(index) if self.file is not None else self._of_data(index, real)
        x = np.asarray(sample.x, dtype=np.float32)
        if x.shape != info.shape:
            raise UserError(
                f"A given sample has the shape {list(x.shape)}, but those of this model have "
                f"{list(info.shape)}. Cut or resize it as the training data are."
            )
        label = sample.label if self.label is None else self.label
        if self.label is not None and not 0 <= self.label <= info.num_classes:
            raise UserError(
                f"`template.label` {self.label} does not exist: there are {info.num_classes} "
                "classes, numbered from 0; their number means none."
            )
        return Wanted(
            x,
            there=~np.isnan(x) if info.sizes_vary else None,
            place=sample.place,
            label=label if info.num_classes else None,
            scalars=sample.scalars,
            context=sample.context,
        )

    def _of_file(self, index: int) -> Sample:
        assert self.file is not None
        stored = open_array(self.file, None, default="x")
        if stored.ndim < 2 or not stored.shape[0]:
            raise UserError(
                f"{self.file} holds an array {list(stored.shape)}; give samples [n, C, …]."
            )
        return Sample(np.asarray(stored[index % stored.shape[0]]))

    def _of_data(self, index: int, real: Callable[[], RealSamples]) -> Sample:
        source: RealSamples | Dataset = real() if self.data is None else self.data
        if not len(source):
            raise UserError("`template.data` holds no samples.")
        found: Sequence[Sample] = source.get_batch([index % len(source)])
        return found[0]
