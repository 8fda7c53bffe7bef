"""All that scores depend on, as plain data: what was kept is taken up again only if it is equal."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from rawdiff.conditions import spread
from rawdiff.data.dataset import DataInfo
from rawdiff.data.loading import Subset
from rawdiff.evaluate.evaluator import FeatureEvaluator
from rawdiff.evaluate.store import digest
from rawdiff.run import TrainedModel
from rawdiff.saved.folder import RunFolder
from rawdiff.version import __version__

NUM_COMPARED = 16  # real samples whose values tell whether files were exchanged


@dataclass(frozen=True)
class Facts:
    """Of a model of a run; `info` says what samples are when they are scored."""

    folder: RunFolder
    model: TrainedModel
    info: DataInfo

    @cached_property
    def drawn(self) -> dict[str, Any]:
        """All that drawn samples depend on, beside their conditions."""
        sampler, recipe = self.model.sampler, self.model.recipe.plain()
        network = cast(nn.Module, sampler.network)
        return {
            "weights": self.model.origin["weights"],
            "step": self.model.origin["step"],
            "digest of weights": digest(dict(network.named_parameters())),
            "sample": self.model.recipe.sample.like_real().model_dump(
                mode="json", exclude={"weights", "num_samples", "writer"}
            ),
            **{key: recipe[key] for key in ("model", "adapter", "standardization", "flow")},
            "precision": sampler.precision,
            "device": sampler.device.type,
            **self._basis,
        }

    def data(self, data: Subset) -> dict[str, Any]:
        """Settings of real samples, which of them, and what a few hold: files may be exchanged."""
        few = [sample.x for sample in data.get_batch(spread(NUM_COMPARED, len(data)))]
        return {
            "kind": type(data.dataset).__name__,
            "settings": data.dataset.model_dump(mode="json"),
            "digest of indices": hashlib.sha256(str(list(data.indices)).encode()).hexdigest(),
            "digest of a few samples": digest(
                {f"{i}": torch.from_numpy(np.ascontiguousarray(x)) for i, x in enumerate(few)}
            ),
        }

    def evaluator(self, name: str, evaluator: FeatureEvaluator) -> dict[str, Any]:
        """All that features depend on, beside the samples."""
        return {
            "evaluator": {"name": name, **evaluator.origin()},
            "code of the evaluator": code_digest(type(evaluator)),
            "size": self.info.shape,
            **self._basis,
        }

    @cached_property
    def _basis(self) -> dict[str, Any]:
        statistics = self.folder.statistics_file.read_bytes()
        return {
            "digest of statistics": hashlib.sha256(statistics).hexdigest(),
            "info": json.loads(self.folder.data_description()),
            "version": __version__,
        }


def code_digest(kind: type) -> str | None:
    """Of the file that a class comes from; None if there is none, as in an interactive session."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return None
