"""What a published JiT checkpoint says beside its tensors, and our recipe, in each other's terms.

Its `args` are those of the published training script. What they do not say is as in the recipe
`imagenet_jit_…` of that model.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rawdiff.built_in import built_in_recipes
from rawdiff.errors import UserError
from rawdiff.explain import explain
from rawdiff.model.settings import SIZES
from rawdiff.model.transformer import TransformerSettings
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import load_recipe
from rawdiff_images.jit_layout import Layout
from rawdiff_images.pixels import Mode

SMALLEST = "imagenet_jit_b16"
MODES: dict[int, Mode] = {1: "L", 3: "RGB"}
DECAYS = (0.9999, 0.9996)  # of model_ema1 and model_ema2


class Arguments(BaseModel):
    """Those of the published script that matter here; None where the file does not say.

    `in_context_start` is ours, for networks of no published size.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    model: str | None = None
    img_size: int | None = None
    class_num: int | None = None
    noise_scale: float | None = Field(default=None, gt=0)
    P_mean: float | None = None
    P_std: float | None = Field(default=None, gt=0)
    t_eps: float | None = Field(default=None, gt=0, lt=1)
    label_drop_prob: float | None = Field(default=None, ge=0, le=1)
    sampling_method: Literal["heun", "euler"] | None = None
    num_sampling_steps: int | None = Field(default=None, ge=1)
    cfg: float | None = Field(default=None, ge=0)
    interval_min: float | None = Field(default=None, ge=0, le=1)
    interval_max: float | None = Field(default=None, ge=0, le=1)
    attn_dropout: float | None = Field(default=None, ge=0, lt=1)
    proj_dropout: float | None = Field(default=None, ge=0, lt=1)
    ema_decay1: float | None = None
    ema_decay2: float | None = None
    in_context_start: int | None = Field(default=None, ge=0)

    @property
    def published_name(self) -> tuple[str, int] | None:
        """Size and patch of a published model: ("B", 16) for JiT-B/16."""
        found = re.fullmatch(r"JiT-([BLHG])/(\d{1,4})", self.model or "")
        return None if found is None else (found[1], int(found[2]))


def read_arguments(args: Any, source: str) -> Arguments:
    """UserError if a value is not of its kind."""
    if isinstance(args, argparse.Namespace):
        args = vars(args)
    args = {} if args is None else args
    if not isinstance(args, Mapping):
        raise UserError(f"`args` of {source} is no argparse.Namespace, but {type(args).__name__}.")
    known = {name: args[name] for name in Arguments.model_fields if name in args}
    try:
        return Arguments(**known)
    except ValidationError as error:
        problems = "; ".join(explain(error, Arguments, ("args",)))
        raise UserError(f"The settings in {source} cannot be used: {problems}.") from None


def make_layout(
    measured: Mapping[str, int], args: Arguments, in_context_start: int | None, source: str
) -> Layout:
    """The sizes of the network: measured on its tensors, the place of in-context patches as said.

    `in_context_start` beats `args`. UserError where neither says it, or `args` and tensors differ.
    """
    start = args.in_context_start if in_context_start is None else in_context_start
    size = _published_size(measured, args, source, trusted=start is None)
    if start is None and size is not None:
        start = SIZES[size]["in_context_start"]
    if start is None:
        name = f"is called `{args.model}`, none of the published names" if args.model else "no name"
        raise UserError(
            f"{source} does not say before which block the in-context patches come: its model "
            f"{name} (such as JiT-B/16). Add `--in-context-start N`; the published sizes have "
            "4 of 12 blocks, 8 of 24, 10 of 32 and of 40."
        )
    sizes = {name: measured[name] for name in ("width", "depth", "heads", "bottleneck")}
    sizes |= {"in_context_len": measured["in_context_len"], "in_context_start": start}
    dropout = args.proj_dropout
    if dropout is None:
        dropout = SIZES[size].get("dropout", 0.0) if size else 0.0
    if size is not None and start != SIZES[size]["in_context_start"]:
        size = None
    try:
        model = TransformerSettings(size=size, **sizes, dropout=dropout, swiglu_multiple=1)
    except ValidationError as error:
        raise UserError(f"{source}: {'; '.join(explain(error, TransformerSettings))}.") from None
    rest = ("patch_size", "patches_per_side", "num_channels", "num_classes")
    layout = Layout(model, **{name: measured[name] for name in rest})
    _require_agreement("img_size", args.img_size, layout.image_size, "pixels a side", source)
    _require_agreement("class_num", args.class_num, layout.num_classes, "classes", source)
    return layout


def _published_size(
    measured: Mapping[str, int], args: Arguments, source: str, *, trusted: bool
) -> str | None:
    """The published size that both the name and the tensors are of; None if there is none.

    UserError if a name that is to be trusted is contradicted by the tensors.
    """
    if args.published_name is None:
        return None
    size, patch_size = args.published_name
    expected = {name: SIZES[size][name] for name in ("width", "depth", "heads", "bottleneck")}
    expected["patch_size"] = patch_size
    wrong = [
        f"{name} {measured[name]} instead of {value}"
        for name, value in expected.items()
        if measured[name] != value
    ]
    if wrong and trusted:
        raise UserError(
            f"{source} calls itself `{args.model}`, but its tensors have {', '.join(wrong)}. If "
            "they are right, say before which block in-context patches come: "
            "`--in-context-start N`."
        )
    return None if wrong else size


def _require_agreement(name: str, said: int | None, measured: int, what: str, source: str) -> None:
    if said not in (None, measured):
        raise UserError(
            f"`args.{name}` of {source} is {said}, but its tensors have {measured} {what}. Give "
            "the checkpoint that these settings belong to."
        )


def to_recipe(layout: Layout, args: Arguments) -> dict[str, Any]:
    """The recipe that trains and samples such a model, as plain data."""
    name = f"imagenet_jit_{(layout.model.size or '').lower()}{layout.patch_size}"
    content = load_recipe(name if name in built_in_recipes() else SMALLEST).plain()
    content["data"] |= {
        "size": [layout.image_size] * 2,
        "mode": MODES[layout.num_channels],
        "num_classes": layout.num_classes,
    }
    if layout.num_classes != 1000:  # not ImageNet
        content["data"]["path"], content["holdout"] = "data/images", None
    # Larger pictures need more noise: 1, 2, 4 at 256, 512, 1024 pixels. (arXiv 2511.13720)
    content["flow"]["noise_scale"] = max(1.0, layout.image_size / 256)
    content["adapter"]["patch_size"] = [layout.patch_size] * 2
    content["model"] = layout.model.model_dump(mode="json")
    flow = {
        "noise_scale": args.noise_scale,
        "P_mean": args.P_mean,
        "P_std": args.P_std,
        "t_eps": args.t_eps,
        "label_drop": args.label_drop_prob,
    }
    sample = {
        "solver": args.sampling_method,
        "num_steps": args.num_sampling_steps,
        "cfg_scale": args.cfg,
        "t_eps": args.t_eps,
    }
    content["flow"] |= {key: value for key, value in flow.items() if value is not None}
    content["sample"] |= {key: value for key, value in sample.items() if value is not None}
    low, high = content["sample"]["cfg_interval"]
    content["sample"]["cfg_interval"] = [
        low if args.interval_min is None else args.interval_min,
        high if args.interval_max is None else args.interval_max,
    ]
    return content


def to_namespace(layout: Layout, recipe: Recipe, names: tuple[str, str]) -> argparse.Namespace:
    """The inverse of `to_recipe`; `names` are the averages that stand under model_ema1 and 2.

    Raises UserError for a setting that JiT does not know, such as another solver or other times.
    """
    sizes = layout.model.model_dump()
    known = (
        size
        for size, expected in SIZES.items()
        if layout.model.in_context_len == 32
        and all(sizes[key] == value for key, value in expected.items() if key != "dropout")
    )
    size = next(known, None)
    shape = (layout.num_channels, layout.image_size, layout.image_size)
    flow, sample = recipe.flow.resolved(shape), recipe.sample
    if sample.times != "linear":
        raise UserError(
            f"JiT's steps are evenly spaced, but this model samples with `sample.times: "
            f"{sample.times}`. Write `linear`, or export without `--format jit`."
        )
    decays = {ema.name: ema.decay for ema in recipe.train.ema if ema.decay is not None}
    said: dict[str, Any] = {
        "model": f"JiT-{size or 'custom'}/{layout.patch_size}",
        "img_size": layout.image_size,
        "class_num": layout.num_classes,
        "noise_scale": flow.noise_std,
        "P_mean": flow.P_mean,
        "P_std": flow.P_std,
        "t_eps": flow.t_eps,
        "label_drop_prob": flow.label_drop,
        "sampling_method": sample.solver,
        "num_sampling_steps": sample.num_steps,
        "cfg": sample.cfg_scale,
        "interval_min": sample.cfg_interval[0],
        "interval_max": sample.cfg_interval[1],
        "attn_dropout": 0.0,
        "proj_dropout": layout.model.dropout,
        "ema_decay1": decays.get(names[0], DECAYS[0]),
        "ema_decay2": decays.get(names[1], DECAYS[1]),
        "in_context_start": layout.model.in_context_start,
    }
    try:
        return argparse.Namespace(**Arguments(**said).model_dump())
    except ValidationError as error:
        problems = "; ".join(explain(error, Arguments, ("args",)))
        raise UserError(f"The settings of this model have no place in JiT's: {problems}.") from None
