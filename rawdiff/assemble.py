"""From a recipe to the things it describes: data, patch grid, statistics, network."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rawdiff.conditions import spread
from rawdiff.data.dataset import DataInfo, Dataset, Sample, wrong_info
from rawdiff.data.loading import Subset
from rawdiff.data.order import split
from rawdiff.data.packed import find_packed
from rawdiff.data.patcher import Patcher, broken_adapter
from rawdiff.data.statistics import (
    Moments,
    StandardizationSettings,
    Statistics,
    fixed,
    measure,
)
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid, wrong_axes
from rawdiff.model.network import Interface, Network
from rawdiff.plugins import described, load_plugin
from rawdiff.recipe import Recipe

PACKED_FOLDER = Path("packed")
MERE_WORDS = ("attributes", "writer", "evaluators")
"""What a description says of data without making them others."""
BYTES_AT_ONCE = 2**26  # of samples, while statistics are taken
NUM_LOOKED_AT = 64  # samples that tell whether given statistics are near those of the data


@dataclass(frozen=True)
class Data:
    """The training split, and real samples that training never sees."""

    train: Subset
    holdout: Subset | None

    @property
    def real(self) -> Subset:
        """Where new samples take scalars and context from: held-out data, where there are any."""
        return self.train if self.holdout is None else self.holdout


def packed_or_raw(dataset: Dataset) -> Dataset:
    """The copy that `rawdiff prepare` packed from exactly these settings, where there is one.

    UserError if the source is there and has another number of samples than when it was packed.
    """
    if (own := dataset.packed(PACKED_FOLDER)) is not None:
        return own
    packed = find_packed(dataset, PACKED_FOLDER)
    if packed is None:
        return dataset
    try:
        num_samples = len(dataset)
    except UserError:
        return packed  # the source is gone; the copy stands for it
    if num_samples != packed.index.num_source_samples:
        raise UserError(
            f"{packed.path} was packed from {packed.index.num_source_samples} samples, but its "
            f"source now has {num_samples}. Delete that folder, and run `rawdiff prepare` again "
            "if the samples are to be packed anew."
        )
    return packed


def info_without_data(recipe: Recipe) -> DataInfo:
    """UserError where the recipe alone does not say what samples look like."""
    try:
        return recipe.data.info
    except UserError as error:
        raise UserError(
            f"{error} Without its data a recipe can be checked and timed if it says itself what "
            "samples look like: classes by `data.num_classes`, fields by `data.shape`, other "
            "shapes as docs/scale.md shows."
        ) from error


def open_data(recipe: Recipe) -> Data:
    """The datasets of a recipe, split as it says. UserError where they cannot be read."""
    dataset = packed_or_raw(recipe.data)
    if wrong := next(wrong_info(dataset.info), None):
        who = described("datasets", type(dataset))
        raise UserError(f"The dataset {who} cannot be used: {wrong}. Correct its `info`.")
    if not len(dataset):
        raise UserError("`data` holds no samples.")
    if recipe.holdout is None:
        return Data(Subset(dataset, range(len(dataset))), None)
    if (held_out := recipe.holdout_data) is not None:
        try:
            held_out = packed_or_raw(held_out)
            num_held_out = len(held_out)
        except UserError as error:
            raise UserError(f"Held-out data (`holdout.data`): {error}") from error
        _require_same_kind(dataset.info, held_out.info)
        if type(held_out) is type(dataset):
            dataset.require_unseen(held_out)
        whole = Subset(dataset, range(len(dataset)))
        return Data(whole, Subset(held_out, range(num_held_out)))
    if len(dataset) < 2:
        raise UserError("`holdout.fraction` needs at least two samples in `data`.")
    fraction = recipe.holdout.fraction or 0.0
    train, rest = split(len(dataset), fraction, recipe.seed)
    return Data(Subset(dataset, train), Subset(dataset, rest))


def _require_same_kind(train: DataInfo, held_out: DataInfo) -> None:
    """UserError unless samples mean the same in both; the held-out may lack the last classes."""
    classes = train.class_names[: len(held_out.class_names)]
    expected = dataclasses.replace(train, class_names=classes)
    kinds = ("shape", "channels", "class_names", "scalar_names", "num_context_channels", "meaning")
    for name in kinds:
        if (found := getattr(held_out, name)) != (there := getattr(expected, name)):
            raise UserError(
                f"Held-out data differ from training data in {name}: {found} instead of {there}. "
                "Give `holdout.data` samples of the same kind."
            )


def patch_grid(recipe: Recipe, info: DataInfo) -> PatchGrid:
    """Where the patches of such samples lie. UserError where they cannot be cut."""
    axes = recipe.adapter.axes(info.shape, info.coordinates)
    if wrong := next(wrong_axes(axes), None):
        raise broken_adapter(recipe.adapter, wrong, info.shape)
    return PatchGrid(axes)


def sample_bytes(sample: Sample) -> int:
    """Of its values and context in memory."""
    return sample.x.nbytes + (0 if sample.context is None else sample.context.nbytes)


def take_statistics(recipe: Recipe, train: Subset) -> Statistics:
    """Statistics of the training split; all of its values are read only if they are needed.

    Of integer data without context or scalars that are standardized by fixed numbers a few samples
    are enough: integers cannot be missing.
    """
    settings, info = recipe.standardization, train.info
    sample = train.get_batch([0])[0]
    if settings.mode != "statistics":
        known_kinds = sample.context is None and sample.scalars is None
        if known_kinds and info.stored_shape is None and sample.x.dtype.kind in "iu":
            few = [train.indices[i] for i in spread(NUM_LOOKED_AT, len(train))]
            measured = measure(Subset(train.dataset, few).batches(1)).x
            given = fixed(*_given_moments(settings), info.shape)
            return dataclasses.replace(given, measured=measured)
    num_channels = info.shape[0] + info.num_context_channels
    learned_bytes = 4 * num_channels * math.prod(info.shape[1:])
    size = max(1, min(256, BYTES_AT_ONCE // max(sample_bytes(sample), learned_bytes, 1)))
    if settings.num_samples is not None:
        chosen = spread(settings.num_samples, len(train))
        train = Subset(train.dataset, [train.indices[i] for i in chosen])
    return applied(settings, measure(train.batches(size, recipe.train.num_workers)))


def applied(settings: StandardizationSettings, measured: Statistics) -> Statistics:
    """With the mean and spread by which samples are standardized, measured or given."""
    if settings.mode == "statistics":
        return measured
    mean, std = _given_moments(settings)
    channels = torch.ones_like(measured.x.mean)
    given = Moments(mean * channels, std * channels)
    return dataclasses.replace(measured, x=given, measured=measured.x)


def _given_moments(settings: StandardizationSettings) -> tuple[float, float]:
    """Those of `fixed`, or those that change nothing."""
    mean = 0.0 if settings.mean is None else settings.mean
    return mean, 1.0 if settings.std is None else settings.std


def make_patcher(
    recipe: Recipe, info: DataInfo, statistics: Statistics, device: torch.device
) -> Patcher:
    grid, geometry = patch_grid(recipe, info), recipe.data.geometry
    return Patcher(recipe.adapter, statistics.to(device), grid, info.place_names, geometry)


def make_network(recipe: Recipe, info: DataInfo, patcher: Patcher) -> Network:
    """The network without memory, on the device `meta`."""
    interface = Interface(
        patch_dim=patcher.patch_dim,
        extra_dim=patcher.extra_dim,
        num_classes=info.num_classes,
        num_scalars=len(info.scalar_names),
    )
    with torch.device("meta"):
        return recipe.model.build(interface, patcher.grid)


def materialize(network: Network, device: torch.device) -> Network:
    """Give a network its memory and its tables; its weights are NaN until they are filled."""
    network = network.to_empty(device=device)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)
    network.place()
    return network


def make_writer(recipe: Recipe, info: DataInfo) -> Writer:
    """What writes and draws samples: the recipe's choice, else that of the data."""
    writer: Writer = recipe.sample.writer or load_plugin("writers", info.writer)()
    return writer


def describe_data(data: Data) -> str:
    """What a run must know of its data to be loaded, sampled and continued, as JSON."""
    return describe_info(data.train.info, len(data.train))


def describe_info(info: DataInfo, num_train_samples: int | None) -> str:
    """As `describe_data`; None where the data that a model was trained on are not known."""
    facts = dataclasses.asdict(info) | {"num_train_samples": num_train_samples}
    return json.dumps(facts, indent=1)


def require_same_data(before: str, now: str, run: Path) -> None:
    """UserError unless both descriptions agree; says what differs.

    Of an imported model only the kind of data is known: neither their number, nor class names.
    """
    old, new = json.loads(before), json.loads(now)
    if old.get("num_train_samples") is None:
        del new["num_train_samples"]
        for facts in (old, new):
            facts["class_names"] = f"{len(facts['class_names'])} classes"
    changes = [
        f"{key}: {old.get(key)!s:.100} there, {new.get(key)!s:.100} now"
        for key in new
        if key in old and key not in MERE_WORDS and old[key] != new[key]
    ]
    if changes:
        lines = "\n".join(f"  - {change}" for change in changes)
        raise UserError(
            f"{run} was trained on other data than `data` holds now:\n{lines}\n"
            "Restore the data, or choose another `run_dir`."
        )


def read_description(text: str) -> DataInfo:
    """The info that `describe_data` wrote."""
    values: dict[str, Any] = json.loads(text)
    del values["num_train_samples"]
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    coordinates = {name: tuple(value) for name, value in values["coordinates"].items()}
    return DataInfo(**(values | lists | {"coordinates": coordinates}))
