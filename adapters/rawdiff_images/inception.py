"""The Inception network and the scores of its features, from the library torch-fidelity."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rawdiff.errors import UserError
from rawdiff.torch_file import read_torch_file

POOL, LOGITS = "2048", "logits_unbiased"  # the library's names of both features
NUM_FEATURES = 2048


class Library(NamedTuple):
    """The modules of torch-fidelity that are used here."""

    network: Any
    fid: Any
    isc: Any
    prc: Any
    version: str


@cache
def library() -> Library:
    """UserError if torch-fidelity is not installed."""
    try:
        with _torchvision():
            version = importlib.import_module("torch_fidelity").__version__
            names = ("feature_extractor_inceptionv3", "metric_fid", "metric_isc", "metric_prc")
            modules = (importlib.import_module(f"torch_fidelity.{name}") for name in names)
            network, fid, isc, prc = modules
    except ImportError as error:
        raise UserError(
            f"`fid` needs the library torch-fidelity ({error}). Run `pip install rawdiff[fid]`."
        ) from error
    return Library(network, fid, isc, prc, version)


@contextmanager
def _torchvision() -> Iterator[None]:
    """Something of that name while torch-fidelity is imported, even if torchvision cannot be.

    torch-fidelity imports it for other networks and data sets than those used here, and a build
    for another torch (its CUDA wheel beside a CPU torch) fails at import. Empty modules stand in.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        parts = {name: ModuleType(f"torchvision{name}") for name in _PARTS}
        parts[""].transforms = parts[".transforms"]  # type: ignore[attr-defined]
        parts[".transforms"].functional = parts[".transforms.functional"]  # type: ignore[attr-defined]
        for name in ("CIFAR10", "CIFAR100", "STL10"):
            setattr(parts[".datasets"], name, object)
        sys.modules |= {module.__name__: module for module in parts.values()}
        try:
            yield
        finally:
            for module in parts.values():
                del sys.modules[module.__name__]
    else:
        yield


_PARTS = ("", ".transforms", ".transforms.functional", ".datasets")


def weights_origin(path: Path | None) -> str:
    """Which weights these are: the SHA-256 of a file, or the address of the library's own."""
    if path is None:
        return str(library().network.URL_INCEPTION_V3)
    try:
        with path.open("rb") as file:
            return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise UserError(
            f"`weights` of `fid`: {path} cannot be read: {error.strerror}. Give the file of "
            f"{library().network.URL_INCEPTION_V3}, or leave the key out to have it downloaded."
        ) from error


@cache
def inception(path: Path | None, device: torch.device) -> nn.Module:
    """Images uint8 [n, 3, H, W] to features ([n, 2048], [n, 1008]): pooled, and logits.

    The 2015 network of the published scores, resized to as TensorFlow 1 did. (Szegedy et al.
    2015, arXiv 1512.00567; torch-fidelity, Obukhov et al. 2020)
    Raises UserError for weights that cannot be had, are unsafe, or belong to another network.
    """
    state = _downloaded() if path is None else _read(path)
    source = path or library().network.URL_INCEPTION_V3
    strange = [
        k for k, x in state.items() if not isinstance(x, Tensor) or not bool(x.isfinite().all())
    ]
    if strange:
        raise UserError(f"{source} holds no finite tensor as `{strange[0]}`: it is damaged.")
    checked = BytesIO()  # the library unpickles what it is given: it gets tensors only
    torch.save(state, checked)
    checked.seek(0)
    try:
        network = library().network.FeatureExtractorInceptionV3(
            "inception-v3-compat", [POOL, LOGITS], feature_extractor_weights_path=checked
        )
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise UserError(
            f"{source} holds the weights of another network: {what:.300}. Give the file of "
            f"{library().network.URL_INCEPTION_V3}."
        ) from error
    return network.to(device)


def _read(path: Path) -> dict[str, Tensor]:
    weights_origin(path)  # is it there?
    try:
        state = read_torch_file(path)
    except UserError as error:
        url = library().network.URL_INCEPTION_V3
        raise UserError(f"`weights` of `fid`: {error} The right one is {url}.") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__} instead of tensors by name.")
    return dict(state)


def _downloaded() -> dict[str, Tensor]:
    """The library's own weights, from torch's cache or the net; the name holds their digest."""
    url = library().network.URL_INCEPTION_V3
    try:
        state = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if kept.is_file():  # torch's own words may propose to run it
            raise UserError(f"{kept} is damaged. Delete it; it is downloaded again.") from error
        raise UserError(
            f"The Inception weights cannot be downloaded from {url}: {error}. Bring that file "
            "here by other means, and write its path as `evaluate.evaluators.fid.weights=…`."
        ) from error
    return dict(state)
