"""Checkpoints of the published PyTorch code of JiT (arXiv 2511.13720), in and out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import fixed
from rawdiff.errors import UserError
from rawdiff.exchange.foreign import Format, Incoming, Outgoing
from rawdiff.files import atomic
from rawdiff.flow.settings import FlowSettings
from rawdiff.model.transformer import TransformerSettings
from rawdiff.torch_file import read_torch_file
from rawdiff_images.adapter import ImageAdapter
from rawdiff_images.folder import CHANNELS
from rawdiff_images.jit_layout import Layout, measure, unwrapped
from rawdiff_images.jit_settings import (
    MODES,
    Arguments,
    make_layout,
    read_arguments,
    to_namespace,
    to_recipe,
)

MIDDLE_GREY = 127.5  # pixels from 0 to 255 become -1 to 1
# Keys under `flow:` that training alone looks at, or that `args` can say.
FREE_FLOW = ("loss", "time", "P_mean", "P_std", "noise_scale", "t_eps", "label_drop", "sigma_data")
FREE_MODEL = ("size", "dropout", "swiglu_multiple")


class JiTFormat(Format):
    """A checkpoint of the published JiT code (checkpoint-last.pth): `model`, `model_ema1`,
    `model_ema2`, `epoch` and `args`."""

    weights: Literal["model", "ema1", "ema2"] = Field(
        default="ema1",
        description="which of the file's weights: model, ema1 (default; those that the published "
        "sampler uses) or ema2",
    )
    in_context_start: int | None = Field(
        default=None,
        ge=0,
        description="the block before which in-context patches come, counted from 0; needed where "
        "the model's name in the file is none of the published",
    )

    def read(self, path: Path) -> Incoming:
        checkpoint = read_torch_file(path, (argparse.Namespace,))
        source = str(path)
        tensors = unwrapped(self._chosen(checkpoint, source), source)
        args = read_arguments(checkpoint.get("args"), source)
        layout = make_layout(measure(tensors, source), args, self.in_context_start, source)
        if layout.num_channels not in MODES:
            raise UserError(
                f"{path} is of images with {layout.num_channels} channels; only grey (1) and "
                "colour (3) can be read."
            )
        layout.require(tensors, source)
        own = layout.to_own(tensors)
        recipe = to_recipe(layout, args)
        shape = (layout.num_channels, layout.image_size, layout.image_size)
        info = DataInfo(
            shape=shape,
            channels=CHANNELS[MODES[layout.num_channels]],
            class_names=tuple(str(label) for label in range(layout.num_classes)),
            value_range=(0, 255),
            writer="png",
        )
        return Incoming(
            recipe=recipe,
            info=info,
            statistics=fixed(MIDDLE_GREY, MIDDLE_GREY, shape),
            tensors=own,
            weights=self.weights,
            summary=_summary(layout, own),
            notes=_notes(args, tensors),
        )

    def _chosen(self, checkpoint: Any, source: str) -> Mapping[str, Tensor]:
        key = self.weights if self.weights == "model" else f"model_{self.weights}"
        found = checkpoint.get(key) if isinstance(checkpoint, dict) else None
        if isinstance(found, dict) and found:
            return found
        held = [str(name) for name in checkpoint] if isinstance(checkpoint, dict) else []
        sets = [name.removeprefix("model_") for name in held if name.startswith("model")]
        cure = (
            f"Choose `--weights {sets[0]}`."
            if sets
            else "Give a checkpoint as the published code saves it: model, model_ema1, "
            "model_ema2, epoch, args."
        )
        shown = ", ".join(f"`{name}`" for name in held[:5]) or type(checkpoint).__name__
        raise UserError(f"{source} has no weights `{key}`; it holds {shown}. {cure}")

    def write(self, path: Path, model: Outgoing) -> None:
        layout = _layout_of(model)
        first = model.names[0]  # the published sampler uses model_ema1
        others = [name for name in model.names if name != "model"] or [first]
        chosen = {
            "model": "model" if "model" in model.names else first,
            "model_ema1": first,
            "model_ema2": others[-1],
        }
        own = {name: model.read(name) for name in dict.fromkeys(chosen.values())}
        for name, tensors in own.items():
            expected = {entry.own for entry in layout.entries()}
            if odd := expected ^ tensors.keys():
                raise UserError(f"JiT has no place for `{min(odd)}` of the weights `{name}`.")
        published = {name: layout.to_published(tensors) for name, tensors in own.items()}
        checkpoint = {key: published[name] for key, name in chosen.items()} | {
            "epoch": model.num_epochs,
            "args": to_namespace(layout, model.recipe, (first, others[-1])),
        }
        with atomic(path) as file:
            torch.save(checkpoint, file)


def _summary(layout: Layout, own: Mapping[str, Tensor]) -> str:
    model = layout.model
    millions = sum(tensor.numel() for tensor in own.values()) / 1e6
    colour = "" if layout.num_channels == 3 else ", grey"
    return (
        f"JiT {millions:.1f} M parameters: width {model.width}, depth {model.depth}, heads "
        f"{model.heads}, bottleneck {model.bottleneck}, {model.in_context_len} in-context patches "
        f"before block {model.in_context_start}; {layout.image_size} x {layout.image_size} "
        f"pixels{colour} in patches of {layout.patch_size}, {layout.num_classes} classes"
    )


def _notes(args: Arguments, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    notes = []
    if args.attn_dropout:
        notes.append(
            f"`attn_dropout` {args.attn_dropout} is left out: rawdiff has no dropout of attention "
            "weights. Samples are the same; further training differs."
        )
    if silent := [name for name in ("noise_scale", "t_eps", "cfg") if getattr(args, name) is None]:
        notes.append(f"The file does not say {', '.join(silent)}: taken as published.")
    if odd := {str(t.dtype).removeprefix("torch.") for t in tensors.values()} - {"float32"}:
        notes.append(f"Tensors of {', '.join(sorted(odd))} became float32.")
    return tuple(notes)


def _layout_of(model: Outgoing) -> Layout:
    """The published sizes of a model of ours. UserError that names what JiT cannot express."""
    recipe, shape = model.recipe, model.info.shape
    if problems := _inexpressible(model):
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UserError(
            f"This model cannot be written as a JiT checkpoint:\n{lines}\n"
            "`rawdiff export` without `--format` writes any model."
        )
    assert isinstance(recipe.adapter, ImageAdapter)
    assert isinstance(recipe.model, TransformerSettings)
    patch_size = recipe.adapter.patch_size[0]
    return Layout(
        model=recipe.model,
        patch_size=patch_size,
        patches_per_side=shape[1] // patch_size,
        num_channels=shape[0],
        num_classes=model.info.num_classes,
    )


def _inexpressible(model: Outgoing) -> list[str]:
    """What of a model the published network does not have."""
    recipe, info, statistics = model.recipe, model.info, model.statistics
    problems = []
    if not isinstance(recipe.adapter, ImageAdapter):
        problems.append("its adapter is not `images`")
    else:
        rows, columns = recipe.adapter.patch_size
        if rows != columns or info.shape[1] % rows:
            problems.append(f"its patches of {rows} x {columns} are not square, or need padding")
    if len(info.shape) != 3 or info.shape[1] != info.shape[-1] or info.shape[0] not in MODES:
        problems.append(f"its samples of shape {list(info.shape)} are no square images")
    moments = torch.cat((statistics.x.mean, statistics.x.std))
    if bool((moments != MIDDLE_GREY).any()) or info.value_range != (0, 255):
        problems.append("its data are not 8-bit pixels brought to -1 to 1 (mean and std 127.5)")
    if statistics.missing_varies or not bool(statistics.ever_present.all()):
        problems.append("its data have missing values")
    if not info.num_classes:
        problems.append("it has no classes")
    if info.scalar_names or info.num_context_channels:
        problems.append("it takes scalars or context")
    if not isinstance(recipe.model, TransformerSettings):
        return [*problems, "its network is not the Transformer"]
    return problems + _odd_settings(recipe.model, recipe.flow)


def _odd_settings(model: TransformerSettings, flow: FlowSettings) -> list[str]:
    """Keys under `model:` and `flow:` that the published network does not know."""
    sizes = ("width", "depth", "heads", "bottleneck", "in_context_len", "in_context_start")
    plain = TransformerSettings(**{name: getattr(model, name) for name in sizes}, swiglu_multiple=1)
    problems = []
    for section, ours, theirs, free in (
        ("model", model, plain, FREE_MODEL),
        ("flow", flow, FlowSettings(), FREE_FLOW),
    ):
        expected = theirs.model_dump(exclude=set(free))
        for key, value in ours.model_dump(exclude=set(free)).items():
            if value != expected[key]:
                problems.append(f"`{section}.{key}` is {value}, and JiT has {expected[key]}")
    if model.swiglu and model.mlp_width != plain.mlp_width:
        problems.append(
            f"`model.swiglu_multiple: {model.swiglu_multiple}` makes the MLP {model.mlp_width} "
            f"wide, and JiT's is {plain.mlp_width}"
        )
    if model.bottleneck is None:
        problems.append("it has no bottleneck (`model.bottleneck`)")
    if not model.in_context_len:
        problems.append("it has no in-context patches (`model.in_context_len`)")
    if model.head_width % 4:
        problems.append(f"its heads are {model.head_width} wide, which is no multiple of 4")
    return problems
