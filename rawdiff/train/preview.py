"""The pictures that a run draws of its own samples while it goes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from rawdiff import picture
from rawdiff.assemble import Data, make_writer
from rawdiff.conditions import draw_conditions, real_batch, spread
from rawdiff.data.seams import seam_ratio
from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.model.network import Network
from rawdiff.sampling import Sampler, draw_all
from rawdiff.saved.folder import RunFolder
from rawdiff.train.log import Log
from rawdiff.train.lookout import Lookout
from rawdiff.train.step import Training
from rawdiff.warn.samples import Seams

NUM_REAL = 16  # samples beside which seams are seen


def draw_picture(
    training: Training, folder: RunFolder, data: Data, log: Log, network: Network, lookout: Lookout
) -> None:
    """A picture of samples drawn with the first EMA: eight of each of the first ten classes.

    How much they and real samples jump across borders of patches is written beside it.
    `network` has no memory of its own: the averaged weights are put together and stand in.
    """
    state, patcher = training.state, training.objective.patcher
    recipe, info = state.recipe, data.train.info
    averaged = state.averaged_weights() | dict(state.network.named_buffers())
    if not training.processes.is_first:
        return
    network.eval()

    def call(*args: Any, **kwargs: Any) -> Any:
        return functional_call(network, averaged, args, kwargs)

    labels = [label for label in range(min(info.num_classes, 10)) for _ in range(8)] or None
    num_samples = len(labels) if labels else 32
    conditions = draw_conditions(info, num_samples, labels, lambda: data.real)
    flow, precision = recipe.flow.resolved(info.shape), recipe.train.precision
    sampler = Sampler(call, patcher, flow, info, state.device, precision)
    batches = draw_all(sampler, num_samples, conditions, recipe.sample.like_real())
    samples = torch.cat(list(batches))
    image = make_writer(recipe, info).draw(samples.numpy(), info=info, labels=labels, columns=8)
    path = folder.pictures / f"step-{state.step:08d}.png"
    seams = _seams(training, data, samples)
    try:
        picture.save_png(image, path)
        if seams is not None:
            write_text(path.with_suffix(".json"), json.dumps(seams._asdict()) + "\n")
    except UserError as error:  # a run is worth more than a picture of it
        log.say(f"No picture of step {state.step}: {error}")
    log.picture(state.step, image)
    if seams is not None:
        lookout.see_seams(seams)


def _seams(training: Training, data: Data, samples: Tensor) -> Seams | None:
    """Of drawn samples [n, C, …] and a few real ones; None where patches have no borders."""
    adapter = training.state.recipe.adapter
    std = training.objective.patcher.statistics.x.std.cpu().view(-1, *(1,) * (samples.dim() - 2))
    real = real_batch(data.real, spread(min(NUM_REAL, len(samples)), len(data.real))).x
    ratios = [seam_ratio(x.float() / std, adapter) for x in (samples, real)]
    if ratios[0] is None or ratios[1] is None:
        return None
    return Seams(training.state.step, ratios[0], ratios[1])


def read_seams(folder: RunFolder) -> list[Seams]:
    """Those of all pictures of a run, oldest first; what cannot be read is left out."""
    found = []
    for path in sorted(folder.pictures.glob("step-*.json")):
        with suppress(OSError, ValueError, TypeError):
            found.append(Seams(**json.loads(path.read_text(encoding="utf-8"))))
    return found
