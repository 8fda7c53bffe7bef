"""The pictures that a run draws of its own samples while it goes."""

from __future__ import annotations

from typing import Any

import torch
from torch.func import functional_call

from rawdiff import picture
from rawdiff.assemble import Data, make_writer
from rawdiff.conditions import draw_conditions
from rawdiff.errors import UserError
from rawdiff.model.network import Network
from rawdiff.sampling import Sampler, draw_all
from rawdiff.saved.folder import RunFolder
from rawdiff.train.log import Log
from rawdiff.train.step import Training


def draw_picture(
    training: Training, folder: RunFolder, data: Data, log: Log, network: Network
) -> None:
    """A picture of samples drawn with the first EMA: eight of each of the first ten classes.

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
    samples = torch.cat(list(batches)).numpy()
    image = make_writer(recipe, info).draw(samples, info=info, labels=labels, columns=8)
    try:
        picture.save_png(image, folder.pictures / f"step-{state.step:08d}.png")
    except UserError as error:  # a run is worth more than a picture of it
        log.say(f"No picture of step {state.step}: {error}")
    log.picture(state.step, image)
