"""A trained model as a module of torch that goes to the Hugging Face hub and comes from it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from rawdiff.assemble import make_patcher
from rawdiff.averages.weights import Weights, read_weights
from rawdiff.errors import UserError
from rawdiff.exchange.card import CARD
from rawdiff.exchange.export import EXPORTED, write_export
from rawdiff.model.network import Network
from rawdiff.precision import Device
from rawdiff.run import TrainedModel, load
from rawdiff.saved.folder import RunFolder

try:
    from huggingface_hub import PyTorchModelHubMixin, snapshot_download
except ModuleNotFoundError as error:
    raise UserError(
        "rawdiff.exchange.hub needs huggingface_hub: pip install 'rawdiff[hub]'"
    ) from error


class PretrainedModel(nn.Module, PyTorchModelHubMixin, library_name="rawdiff"):
    """The network of a run or an export, to train on in a loop of one's own, and to sample.

    `from_pretrained` takes a folder (a run, or what `rawdiff export` or `save_pretrained` wrote) or
    a name on the hub, `save_pretrained` writes an export with a model card, `push_to_hub` puts one
    there. UserError where a folder holds no model.
    """

    def __init__(self, folder: Path, device: Device = "auto") -> None:
        super().__init__()
        self._folder = RunFolder.open(folder)
        self._trained = load(folder, device=device, say=lambda text: None)
        sampler = self._trained.sampler
        self.network = cast(Network, sampler.network)
        self.guide = sampler.guide

    def forward(self, z_t: Tensor, t: Tensor, label: Tensor | None = None, **known: Any) -> Tensor:
        """The network's output [B, N, P]; see `rawdiff.model.network.Network.forward`."""
        return self.network(z_t, t, label, **known)

    @property
    def trained(self) -> TrainedModel:
        """What predicts and samples, with the weights as they are, on the device where they are."""
        before, device = self._trained.sampler, self.network.device
        if before.device == device:
            return self._trained
        statistics = before.patcher.statistics
        patcher = make_patcher(self._trained.recipe, before.info, statistics, device)
        return replace(self._trained, sampler=replace(before, patcher=patcher, device=device))

    def sample(self, num_samples: int, label: Any = None, seed: int = 0, **settings: Any) -> Tensor:
        """New samples [n, C, …] in data units; see `rawdiff.TrainedModel.sample`."""
        return self.trained.sample(num_samples, label, seed, **settings)

    def _weights(self) -> tuple[Weights, bool]:
        """Those of now, and whether they are still those that were loaded."""
        origin = self._trained.origin
        name, step = origin["weights"], origin["step"]
        which = None if self._folder.is_export else name
        of_step = None if self._folder.is_export else step
        before = read_weights(self._folder, which, of_step, lambda text: None)
        now = {key: p.detach().cpu().clone() for key, p in self.network.named_parameters()}
        same = all(torch.equal(now[key], before.tensors[key]) for key in now)
        return Weights(now, name if same else f"{name}, trained on", step), same

    def _save_pretrained(self, save_directory: Path) -> None:
        """Called by `save_pretrained`. Of weights that were trained on, no score is known."""
        weights, same = self._weights()
        if save_directory.resolve() == self._folder.path.resolve():
            raise UserError(
                f"{save_directory} holds the model that this one came from; give another."
            )
        if same and self._folder.is_export:
            for name in EXPORTED:
                if (self._folder.path / name).is_file():
                    shutil.copyfile(self._folder.path / name, save_directory / name)
            return
        (save_directory / CARD).unlink(missing_ok=True)
        write_export(save_directory, self._folder, self._trained.recipe, weights)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **settings: Any,
    ) -> PretrainedModel:
        """Called by `from_pretrained`."""
        if Path(model_id).is_dir():
            return cls(Path(model_id), **settings)
        folder = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=list(EXPORTED),
        )
        return cls(Path(folder), **settings)
