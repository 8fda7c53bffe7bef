"""Generated images as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError


class PngWriter(Writer):
    """One file for each image, `000042.png`.

    Values are scaled from the data's range to 0 … 255 and rounded; missing values become black.
    """

    class_folders: bool = False
    """Puts each image into a folder of the name of its class."""

    def write(
        self,
        samples: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        labels: Sequence[int] | None = None,
        place: Array | None = None,
    ) -> list[Path]:
        """Samples [n, C, H, W] with C 1 or 3; UserError if they are no such images."""
        names = [f"{first_index + i:06d}.png" for i in range(len(samples))]
        if self.class_folders:
            names = [
                f"{class_folder}/{name}"
                for class_folder, name in zip(_class_folders(labels, info), names, strict=True)
            ]
        paths = [folder / name for name in names]
        for pixels, path in zip(_eight_bits(samples, info), paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return paths


def _eight_bits(samples: Array, info: DataInfo) -> Array:
    """uint8 [n, H, W] for grey, [n, H, W, 3] for colour."""
    if samples.ndim != 4 or samples.shape[1] not in (1, 3):
        raise UserError(
            f"PNG files hold images of 1 or 3 channels, but a sample has the shape "
            f"{list(samples.shape[1:])}. Write `writer: {{name: arrays}}` under `sample:`."
        )
    if info.value_range is None:
        raise UserError(
            "Which values are black and white is not known: this dataset gives no range of "
            "values. Write `writer: {name: arrays}` under `sample:`."
        )
    low, high = info.value_range
    scaled = np.nan_to_num((samples - low) / (high - low), nan=0.0)
    pixels = np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)
    return pixels[:, 0] if samples.shape[1] == 1 else rearrange(pixels, "n c h w -> n h w c")


def _class_folders(labels: Sequence[int] | None, info: DataInfo) -> list[str]:
    if labels is None or not info.class_names:
        raise UserError(
            "`class_folders: true` needs samples with classes, but these have none. "
            "Write `class_folders: false` under `sample.writer:`."
        )
    return [_folder_name(info.class_names[label]) for label in labels]


def _folder_name(class_name: str) -> str:
    """A class name may come with a stranger's model: it must not lead out of the folder."""
    return class_name.replace("/", "_").replace("\\", "_").lstrip(".") or "_"
