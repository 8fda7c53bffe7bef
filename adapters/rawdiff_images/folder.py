"""Image files in one folder per class, or in one folder without labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import Array, Batch, DataInfo, Dataset, Draw, Sample
from rawdiff.errors import UserError
from rawdiff_images.adapter import RowsColumns
from rawdiff_images.crop import center_crop
from rawdiff_images.pixels import DamagedImageError, Mode, read_pixels

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
CHANNELS: dict[Mode, tuple[str, ...]] = {"RGB": ("red", "green", "blue"), "L": ("grey",)}


class _Files(NamedTuple):
    """Names [n] relative to the folder, as bytes (a million strings would be copied into every
    worker process), and labels [n]."""

    names: Array
    labels: Array | None


class ImageFolder(Dataset):
    """Images [C, H, W] of 8 bits, cropped: `path/<class>/<any folders>/<image>`.

    Classes count from 0 in the order of their folders' names. Other files, and names that begin
    with a dot, are ignored.
    """

    path: Path
    """The folder."""
    size: RowsColumns
    """Rows and columns to which images are scaled and cropped; one number for both. [pixels]"""
    mode: Mode = "RGB"
    """Colour, or grey."""
    flip: bool = True
    """Mirrors half of the training images."""
    decode: Literal["full", "reduced"] = "full"
    """`reduced` decodes less of photographs that are at least twice as large as needed, by which
    pixels change a little."""
    labels: bool = True
    """Whether folders are classes; with `false` the images may lie in any folders."""
    num_classes: int | None = Field(default=None, ge=1)
    """Number of classes: is checked against the folder, and lets a recipe be checked without it.
    [classes]"""
    on_error: Literal["stop", "skip"] = "stop"
    """At a damaged image training stops, or the next readable one stands in for it."""

    @property
    def info(self) -> DataInfo:
        return DataInfo(
            shape=(len(CHANNELS[self.mode]), *self.size),
            channels=CHANNELS[self.mode],
            class_names=self._class_names() if self.labels else (),
            value_range=(0, 255),
            writer="png",
        )

    def __len__(self) -> int:
        return len(self._files.names)

    def __getitem__(self, index: int) -> Sample:
        try:
            return self._read(index)
        except DamagedImageError:
            if self.on_error == "stop":
                raise
            return self._stand_in(index)

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        """Mirrors left and right with probability 1/2, all that lies on the image's grid."""
        if not self.flip:
            return batch
        chosen = draw(1)[:, 0] < 0.5  # [B]
        mirrored: dict[str, Any] = {
            name: _mirror(values, chosen)
            for name in ("x", "context", "weight")
            if (values := getattr(batch, name)) is not None and values.dim() > 1
        }
        return replace(batch, **mirrored)

    @property
    def _root(self) -> Path:
        return self.path.expanduser()

    def _class_names(self) -> tuple[str, ...]:
        if self.num_classes is not None and not self._root.exists():
            return tuple(str(label) for label in range(self.num_classes))
        return self._class_folders

    @cached_property
    def _class_folders(self) -> tuple[str, ...]:
        folders = []
        for entry in _visible(self._root):
            if entry.is_dir():
                folders.append(entry.name)
            elif _is_image(entry.name):
                raise UserError(
                    f"{self._root} should hold one folder per class, but there is the image "
                    f"{entry.name}. Move it into a folder of its class, or write `labels: false` "
                    "under `data:` to train without labels."
                )
        if not folders:
            raise UserError(
                f"{self._root} holds no class folders and no images. Give the folder that "
                f"holds them as `path` under `data:`; images end in {', '.join(SUFFIXES)}."
            )
        if self.num_classes not in (None, len(folders)):
            raise UserError(
                f"`num_classes` under `data:` is {self.num_classes}, but {self._root} holds "
                f"{len(folders)} class folders, from {min(folders)} to {max(folders)}. Correct "
                "the number, or give another folder."
            )
        return tuple(sorted(folders))

    @cached_property
    def _files(self) -> _Files:
        if not self.labels:
            return _Files(self._names(""), None)
        parts = [self._names(folder) for folder in self._class_folders]
        counts = [len(part) for part in parts]
        return _Files(np.concatenate(parts), np.repeat(np.arange(len(parts)), counts))

    def _names(self, folder: str) -> Array:
        """Sorted names, relative to the root, of all images in and below one of its folders."""
        prefix = f"{folder}/" if folder else ""
        names = sorted(os.fsencode(name) for name in _images(self._root / folder, prefix))
        if not names:
            raise UserError(
                f"{self._root / folder} holds no images (names that end in "
                f"{', '.join(SUFFIXES)}). Fill the folder, or remove it."
            )
        return np.array(names)

    def _read(self, index: int, *, damaged: bool = False) -> Sample:
        names, labels = self._files
        path = self._root / os.fsdecode(names[index])
        covering = self.size if self.decode == "reduced" else None
        pixels = read_pixels(path, self.mode, covering=covering)
        return Sample(
            x=center_crop(pixels, self.size),
            label=None if labels is None else int(labels[index]),
            damaged=damaged,
        )

    def _stand_in(self, index: int) -> Sample:
        for other in chain(range(index + 1, len(self)), range(index)):
            try:
                return self._read(other, damaged=True)
            except DamagedImageError:
                continue
        raise UserError(
            f"None of the {len(self)} images in {self._root} can be read. Write `on_error: stop` "
            "under `data:` to see what is wrong with the first one."
        )


def _mirror(values: Tensor, chosen: Tensor) -> Tensor:
    """Left and right exchanged in the chosen samples; values [B, …, W], chosen [B]."""
    return torch.where(chosen.view(-1, *(1,) * (values.dim() - 1)), values.flip(-1), values)


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be listed: {error.strerror}. Give the folder of the images as "
            "`path` under `data:`."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise UserError(
            f"{entry.path} cannot be followed: {error.strerror}. Remove that link."
        ) from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _images(folder: Path, prefix: str) -> Iterator[str]:
    """Images in and below a folder, in no order; a broken link is among them, to be found out."""
    for entry in _visible(folder):
        if _is_folder(entry):
            yield from _images(Path(entry.path), f"{prefix}{entry.name}/")
        elif _is_image(entry.name):
            yield prefix + entry.name
