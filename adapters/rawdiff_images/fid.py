"""FID, Inception Score, precision and recall of images, as published."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.conditions import spread
from rawdiff.data.arrays import ArrayDataset
from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, FeatureEvaluator, Features, Goal, OwnReference
from rawdiff.precision import choose_device
from rawdiff_images.folder import ImageFolder
from rawdiff_images.inception import LOGITS, NUM_FEATURES, POOL, inception, library, weights_origin
from rawdiff_images.pixels import Mode

MODES: dict[int, Mode] = {1: "L", 3: "RGB"}
IMAGES = "arr_0"  # the key of images in a published .npz


class FID(FeatureEvaluator):
    """Fréchet distance of Inception features; lower is better.

    Images are rounded to 8 bits, and grey ones repeated to RGB. Beside FID there are

    - `inception_score`, the mean over parts, and its spread `inception_score_std`;
    - `precision` and `recall` from the pooled features, by nearest neighbours.

    A score is left out where its sets are too small (fewer images than splits, not more than
    neighbours), precision and recall also where the reference has no images.
    (Heusel et al. 2017, arXiv 1706.08500; Salimans et al. 2016, arXiv 1606.03498; Kynkäänniemi
    et al. 2019, arXiv 1904.06991; on the pooled features: Dhariwal and Nichol 2021)
    """

    by_default: ClassVar[bool] = False

    weights: Path | None = None
    """State dict of the network that torch-fidelity uses, read without unpickling (default:
    downloaded once, into torch's cache, and checked)."""
    reference: Path | None = None
    """A folder of images, cropped like training images, or a published .npz with `mu` and `sigma`,
    with images as `arr_0`, or both (default: the training data)."""
    num_splits: int = Field(default=10, ge=1)
    """Parts of the Inception Score. [parts]"""
    num_neighbours: int = Field(default=3, ge=1)
    """Neighbours by which precision and recall judge. [neighbours]"""
    num_manifold: int = Field(default=10_000, ge=2)
    """Images of the reference for precision and recall, spread evenly. [images]"""

    def goal(self, key: str) -> Goal:
        if key == "inception_score_std":
            return "oracle"
        return "low" if key == "" else "high"

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return "", "inception_score", "inception_score_std", "precision", "recall"

    def origin(self) -> dict[str, Any]:
        return {"torch-fidelity": library().version, "weights": weights_origin(self.weights)}

    def features(
        self, batch: Tensor, basis: Basis, place: Tensor | None = None
    ) -> dict[str, Tensor]:
        """UserError unless they are images of one or three channels, all values known."""
        network, images = inception(self.weights, batch.device), eight_bits(batch, basis.info)
        parts = [network(part) for part in torch.split(images, self.batch_size)]
        pool, logits = (torch.cat(both) for both in zip(*parts, strict=True))
        return {POOL: pool, LOGITS: logits}

    def score(self, features: Features, reference: Features, basis: Basis) -> dict[str, float]:
        """UserError if either set has fewer than two images."""
        pool, logits, real = features[POOL], features[LOGITS], reference.get(POOL)
        target = reference if "mu" in reference else moments(reference[POOL])
        scores = {"": fid(moments(pool), target)}
        if len(logits) >= self.num_splits:
            found = library().isc.isc_features_to_metric(logits, self.num_splits)
            scores["inception_score"] = found["inception_score_mean"]
            scores["inception_score_std"] = found["inception_score_std"]
        if real is not None:
            real = real[spread(self.num_manifold, len(real))]
            if min(len(pool), len(real)) > self.num_neighbours:
                scores |= precision_recall(pool, real, self.num_neighbours)
        return scores

    def own_reference(self, basis: Basis) -> OwnReference | None:
        path = self.reference
        if path is None:
            return None
        own = self._images_in(path, basis) if path.is_dir() else read_reference(path)
        if own.data is not None and basis.info.value_range not in (None, (0, 255)):
            raise UserError(
                f"`reference` of `fid`: {path} holds images of values 0 to 255, but those of these "
                f"data are {basis.info.value_range}. Give a .npz with `mu` and `sigma` alone."
            )
        return replace(own, name=path.name)

    def _images_in(self, path: Path, basis: Basis) -> OwnReference:
        mode = MODES[_image_channels(basis.info)]
        size = (basis.info.shape[1], basis.info.shape[2])
        return OwnReference(ImageFolder(path=path, size=size, mode=mode, labels=False))


def eight_bits(x: Tensor, info: DataInfo) -> Tensor:
    """Images [n, 1 or 3, H, W] in data units as uint8 [n, 3, H, W], of which 255 is white."""
    _image_channels(info)
    if info.value_range is None:
        raise UserError(
            "`fid` rounds images to 8 bits, but these data do not say which values are black and "
            "white: `value_range` of their info is missing. Use an images dataset."
        )
    if bool(x.isnan().any()):
        raise UserError("`fid` needs whole images, but some of their values are missing (NaN).")
    low, high = info.value_range
    scaled = (x - low) * (255 / (high - low))
    return scaled.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def _image_channels(info: DataInfo) -> int:
    if len(info.shape) != 3 or info.shape[0] not in MODES:
        raise UserError(
            f"`fid` scores images of shape [1, H, W] or [3, H, W], but samples have shape "
            f"{list(info.shape)}. Use other evaluators for them."
        )
    return info.shape[0]


def moments(features: Tensor) -> dict[str, Tensor]:
    """Mean [F] and covariance [F, F] of features [n, F], float64."""
    if len(features) < 2:
        raise UserError(f"`fid` compares spreads, but a set has {len(features)} images. Give more.")
    found = library().fid.fid_features_to_statistics(features)
    return {name: torch.from_numpy(values).double() for name, values in found.items()}


def fid(a: Features, b: Features) -> float:
    """Of Gaussians with `mu` [F] and `sigma` [F, F]; never under 0, which rounding would reach."""
    statistics = (
        {name: part[name].double().numpy() for name in ("mu", "sigma")} for part in (a, b)
    )
    found = library().fid.fid_statistics_to_metric(*statistics, verbose=False)
    return max(float(found["frechet_inception_distance"]), 0.0)


def precision_recall(generated: Tensor, real: Tensor, num_neighbours: int) -> dict[str, float]:
    """Shares of generated [n, F] near real features, and of real ones [m, F] near generated.

    Their n (n + 2 m) + m² distances are taken on an accelerator, where there is one.
    """
    device = choose_device("auto")
    found = library().prc.prc_features_to_metric(
        generated.to(device),
        real.to(device),
        prc_neighborhood=num_neighbours,
        save_cpu_ram=True,
        verbose=False,
    )
    return {key: float(found[key]) for key in ("precision", "recall")}


def read_reference(path: Path) -> OwnReference:
    """What a published .npz holds; nothing is unpickled. UserError that names what is wrong."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            tensors = {
                name: torch.from_numpy(np.asarray(file[name], dtype=np.float64))
                for name in ("mu", "sigma")
                if name in names
            }
    except ValueError as error:  # numpy's own words propose to unpickle it
        raise UserError(
            f"`reference` of `fid`: {path} cannot be read: it is no .npz, or holds objects, which "
            "are never unpickled here. Give a folder of images, or a .npz with `mu` and `sigma`."
        ) from error
    except (OSError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"`reference` of `fid`: {path} cannot be read: {error}. Give a folder of images, or a "
            ".npz with `mu` and `sigma`."
        ) from error
    if len(tensors) == 1 or not (tensors or IMAGES in names):
        raise UserError(
            f"`reference` of `fid`: {path} holds {', '.join(sorted(names)) or 'nothing'}; needed "
            f"are `mu` and `sigma`, or images [n, H, W, 3] as `{IMAGES}`."
        )
    shapes = {"mu": (NUM_FEATURES,), "sigma": (NUM_FEATURES, NUM_FEATURES)}
    for name, values in tensors.items():
        if values.shape != shapes[name] or not bool(values.isfinite().all()):
            raise UserError(
                f"`reference` of `fid`: `{name}` in {path} has shape {list(values.shape)}, or is "
                f"not finite; {list(shapes[name])} finite numbers are needed."
            )
    images = ArrayDataset(path=path, key=IMAGES, channel_dim=-1) if IMAGES in names else None
    return OwnReference(images, tensors)
