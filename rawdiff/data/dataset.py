"""Where samples come from: a dataset is a map from index to sample, and says what it holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rawdiff.data.geometry import Geometry
from rawdiff.errors import UserError
from rawdiff.settings import Settings

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """One data item, in the data's own units.

    `x` [C, …] is of any real dtype, NaN where missing; all samples of a dataset share its shape.
    `label` counts from 0. `scalars` [S] are numbers that go with the sample (NaN: unknown).
    `context` [C', …] holds known values on the same grid. `weight` broadcasts to x and multiplies
    its squared errors (area, validity). `place` [A, …] says where each value of the grid lies in
    this sample, by the names and in the units of the dataset; NaN where nothing is. `damaged`
    marks a stand-in for a sample that could not be read.
    """

    x: Array
    label: int | None = None
    scalars: Array | None = None
    context: Array | None = None
    weight: Array | None = None
    place: Array | None = None
    damaged: bool = False


def wrong_info(info: object) -> Iterator[str]:
    """Why what a dataset gives as `info` cannot be what its samples hold."""
    if not isinstance(info, DataInfo):
        yield f"`info` must be a DataInfo, is {info!r:.60}"
        return
    shape = info.shape
    if (
        not isinstance(shape, tuple)
        or not 2 <= len(shape) <= 5
        or not all(type(n) is int and n > 0 for n in shape)
    ):
        yield (
            "`shape` must be a tuple (C, …) of int with one to four dims after the channels, is "
            f"{shape}"
        )
        return
    for name, values in (("channels", info.channels), ("units", info.units)):
        if len(values) != shape[0] and (values or name == "channels"):
            yield f"{len(values)} `{name}` for {shape[0]} channels; give one for each"
    for name, values in (("channels", info.channels), ("class_names", info.class_names)):
        if len(set(values)) < len(values):
            yield f"two of `{name}` are called the same"


@dataclass(frozen=True)
class DataInfo:
    """What a dataset holds, known without reading all of it.

    `shape` is (C, …), that of a sample's x; where `render` makes x of something else, that has
    `stored_shape`; and `stored_context_shape` what it makes a context of. `channels` and `units`
    have C entries. `coordinates` maps dim names to values in the data's own units, `periods` those
    that go around to a whole turn (360 for a longitude, of a part of the globe too). `value_range`
    are the smallest and largest value that can be stored (0 and 255 for 8-bit images); samples that
    are written out are clipped to it. `writer` names the plug-in that writes samples in the field's
    own files, `evaluators` those that score them beside those of any data. `attributes` are what
    files say of each variable or channel beside its units, such as its standard name. `meaning`
    says in words what else makes samples what they are: a model is never used on data of another
    meaning.

    `place_names` name the A rows of each sample's `place`. Where `sizes_vary`, a value that a
    sample misses is none of it by nature, as beyond the end of a short chain: a new sample then
    has the size of a real one, or of a template.
    """

    shape: tuple[int, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...] = ()
    coordinates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    periods: Mapping[str, float] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    scalar_names: tuple[str, ...] = ()
    num_context_channels: int = 0
    value_range: tuple[float, float] | None = None
    writer: str = "arrays"
    evaluators: tuple[str, ...] = ()
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    meaning: Mapping[str, str] = field(default_factory=dict)
    stored_shape: tuple[int, ...] | None = None
    stored_context_shape: tuple[int, ...] | None = None
    place_names: tuple[str, ...] = ()
    sizes_vary: bool = False

    @property
    def num_classes(self) -> int:
        """0 where samples have no labels."""
        return len(self.class_names)

    @property
    def are_told(self) -> bool:
        """Whether more than a label must be told of a sample before it can be drawn."""
        of_real = (self.scalar_names, self.num_context_channels, self.place_names, self.sizes_vary)
        return any(of_real)


@dataclass(frozen=True)
class Batch:
    """B samples as tensors; `index` [B] (int64) is each one's place in the whole run."""

    x: Tensor
    index: Tensor
    label: Tensor | None = None
    scalars: Tensor | None = None
    context: Tensor | None = None
    weight: Tensor | None = None
    place: Tensor | None = None
    num_damaged: int = 0

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        tensors: dict[str, Any] = {
            name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **tensors)

    def to(self, device: torch.device) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by torch's DataLoader."""
        return self._map(lambda tensor: tensor.pin_memory())

    def split(self, size: int) -> list[Batch]:
        """Consecutive batches of at most `size` samples."""
        parts = range(0, len(self.index), size)
        return [self._map(lambda tensor, i=i: tensor[i : i + size]) for i in parts]  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self.index)


Draw: TypeAlias = Callable[[int], Tensor]
"""draw(n) gives [B, n] uniform numbers in (0, 1), keyed by each sample's place in the run."""


class Finding(NamedTuple):
    """One line of what a person should know of data before training."""

    name: str
    text: str


class Dataset(Settings, ABC):
    """A map from index to sample. Fields are the keys that a recipe may write under `data:`.

    Files are opened at the first use, not when the settings are made, so that a recipe can be
    checked without its data and a dataset travels cheaply to worker processes.
    """

    @property
    @abstractmethod
    def info(self) -> DataInfo: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """A pure function of the index. Raises UserError for a sample that cannot be read."""

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        """Several samples; override where reading them together is faster."""
        return [self[index] for index in indices]

    def findings(self) -> Iterable[Finding]:
        """What `rawdiff check` shows of the data, found in seconds; say so if not all was read."""
        return ()

    def pack(self, root: Path, progress: Callable[[int, int], None]) -> Path | None:
        """Write a copy into a folder under `root`, where it is found by `packed`; the folder.

        For a dataset whose samples have parts in common. None (as here): it is packed sample by
        sample. The same call again goes on where it stopped. UserError if it cannot be written.
        """
        return None

    def packed(self, root: Path) -> Dataset | None:
        """The same samples from a copy that `pack` finished under `root`; None if there is none.

        UserError if the source is there and differs from what was packed.
        """
        return None

    def require_unseen(self, held_out: Dataset) -> None:
        """UserError if it is plain that samples of `held_out` are among these, which are learned.

        Called with datasets of one kind.
        """

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        """Random changes that leave a sample a true sample (flips, rotations); training only.

        Runs on the device, on samples as they are stored. All randomness comes from `draw`.
        """
        return batch

    def render(self, batch: Batch) -> Batch:
        """Samples as they are learned of samples as they are stored: atoms become a density.

        Runs on the device, after `augment`; each sample's result depends on that sample alone.
        """
        return batch

    @property
    def geometry(self) -> Geometry | None:
        """In which subspace samples lie, and which motions leave them what they are.

        Known without any file.
        """
        return None


def _spread_weight(sample: Sample) -> Array | None:
    """A sample's weight with as many dims as x, by numpy's rules of broadcasting."""
    if sample.weight is None:
        return None
    weight = np.asarray(sample.weight, dtype=np.float32)
    weight = weight.reshape((1,) * (sample.x.ndim - weight.ndim) + weight.shape)
    if any(n not in (1, size) for n, size in zip(weight.shape, sample.x.shape, strict=False)):
        raise UserError(
            f"A sample's weight of shape {np.shape(sample.weight)} does not broadcast to x of "
            f"shape {sample.x.shape}."
        )
    if not (weight >= 0).all() or np.isinf(weight).any():
        raise UserError("A sample's weight is negative or not finite; 0 is the smallest.")
    return weight


def collate(samples: Sequence[Sample], index: Sequence[int]) -> Batch:
    """Samples to one batch. UserError if they do not agree in shape or in what they bring."""

    def stack(name: str) -> Tensor | None:
        values = [getattr(sample, name) for sample in samples]
        if name == "weight":
            values = [_spread_weight(sample) for sample in samples]
        if all(value is None for value in values):
            return None
        shapes = {np.shape(value) if value is not None else None for value in values}
        if len(shapes) > 1:
            raise UserError(
                f"Samples of one dataset must agree in the shape of `{name}`; found "
                f"{sorted(map(str, shapes))}. Crop or pad them in the dataset."
            )
        return torch.from_numpy(np.stack(values))

    x = stack("x")
    if x is None:
        raise UserError("A sample has no `x`.")
    label = stack("label")
    return Batch(
        x=x,
        index=torch.tensor(index, dtype=torch.int64),
        label=None if label is None else label.long(),
        scalars=stack("scalars"),
        context=stack("context"),
        weight=stack("weight"),
        place=stack("place"),
        num_damaged=sum(sample.damaged for sample in samples),
    )
