"""The contract of a foreign checkpoint format: models of other code in, and ours out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import Statistics
from rawdiff.recipe import Recipe
from rawdiff.settings import Settings

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Incoming:
    """A foreign model in our terms.

    `recipe` is plain data, as in YAML, without `run_dir`. `tensors` are float32 on the CPU under
    the names of our network; `weights` says which set of the file they are. `summary` names the
    sizes that were found, in a line; `notes` say what of the file could not be taken over.
    """

    recipe: dict[str, Any]
    info: DataInfo
    statistics: Statistics
    tensors: Tensors
    weights: str
    summary: str
    notes: tuple[str, ...] = ()
    step: int = 0


@dataclass(frozen=True)
class Outgoing:
    """One of our models, to be written.

    `names` are the sets of weights to choose from, the one that samples are drawn with first;
    `read(name)` gives one, float32 on the CPU.
    """

    recipe: Recipe
    info: DataInfo
    statistics: Statistics
    names: tuple[str, ...]
    read: Callable[[str], Tensors]
    num_epochs: int = 0


class Format(Settings, ABC):
    """Fields, each with a default, are the options of `rawdiff import NAME`: `some_field` is given
    as `--some-field`, and its description is shown by `--help`."""

    one_set: ClassVar[bool] = False
    """Whether its files hold one set of weights alone."""

    @abstractmethod
    def read(self, path: Path) -> Incoming:
        """The model in a file, which is never unpickled (see `rawdiff.torch_file`).

        Raises UserError that names what is missing, unknown or of another shape than expected.
        """

    @abstractmethod
    def write(self, path: Path, model: Outgoing) -> None:
        """Write a file that `read`, and the code that the format comes from, can load.

        Raises UserError, before anything is written, that names what the format cannot express.
        """
