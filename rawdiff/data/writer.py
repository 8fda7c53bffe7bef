"""The contract of a writer: samples in the data's own units become the field's own files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from PIL import Image

from rawdiff import picture
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.errors import UserError
from rawdiff.settings import Settings


class Writer(Settings, ABC):
    """Fields are the keys that a recipe may write under `sample.writer:`.

    `num_drawn` of the samples of a set, the first ones, are drawn.
    """

    num_drawn: ClassVar[int] = 100

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of files (or folders, as a zarr store is one) that hold something of all samples.

        All others hold something of the samples of one call of `write` alone.
        """
        return ()

    @abstractmethod
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
        """Write samples [n, C, …] (float32, data units, NaN where missing); returns the files.

        `first_index` is the number of the first sample in the whole set: a set is written in parts,
        each into a folder of its own, in any order and by several processes. Labels and place
        [n, A, …], where there are any, belong to the samples one by one.
        """

    def join(self, parts: Sequence[Path], folder: Path, *, info: DataInfo) -> None:
        """Write the `shared` files of a set into `folder`, from those in the folders of its parts.

        Parts come in the order of their samples; one may lack a file. Where there is one already,
        it is replaced.
        """
        assert not self.shared, f"{type(self).__name__} must say how its shared files are joined"

    def write_frames(
        self,
        frames: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        place: Array | None = None,
    ) -> list[Path]:
        """Write stages of drawing [number of frames, n, C, …] of the samples from `first_index` on.

        UserError where the field has no files for them (as here).
        """
        raise self._no_frames()

    def require_frames(self) -> None:
        """UserError where `write_frames` would be one, before anything is drawn."""
        if type(self).write_frames is Writer.write_frames:
            raise self._no_frames()

    def _no_frames(self) -> UserError:
        return UserError(
            f"{type(self).__name__} writes no trajectories. Set `sample.num_frames` to 0, or "
            "choose a `sample.writer` that does, such as `arrays`."
        )

    def draw(
        self,
        samples: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> Image.Image:
        """One picture of samples [n, C, …]; a field with a picture of its own draws it here."""
        return picture.draw_samples(samples, info, labels, columns=columns)

    def draw_stages(
        self,
        frames: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> list[Image.Image]:
        """As `draw`, one picture for each stage of the drawing of samples [K, n, C, …].

        Colours are those of the last stage, where the field has no picture of its own.
        """
        if type(self).draw is not Writer.draw:
            return [self.draw(x, info=info, labels=labels, columns=columns) for x in frames]
        draw = partial(picture.draw_samples, info=info, labels=labels, like=frames[-1])
        return [draw(x, columns=columns) for x in frames]

    def draw_noisy_stages(
        self, frames: Array, *, info: DataInfo, columns: int = 10
    ) -> list[Image.Image]:
        """As `draw_stages`, of what the network sees: data and noise [K, n, C, …], less and less.

        A field that reads something in samples to draw it, as bonds, draws their values here.
        """
        return self.draw_stages(frames, info=info, columns=columns)
