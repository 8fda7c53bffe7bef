"""How a run is spread over processes; it changes neither what is computed nor its result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rawdiff.settings import Settings


class ParallelSettings(Settings):
    """Keys of `parallel:`; they may be others each time that a run goes on.

    Every process holds `1 / shard` of the weights, gradients, moments and averages (FSDP2), and
    `replicate` groups of `shard` processes do the same with other samples. `auto`: the processes of
    one machine share, machines replicate. `reshard_after_forward` frees the gathered weights after
    each pass, forward and backward: less memory, but they are gathered twice in each micro-batch
    instead of once in a step. `gather_dtype: bfloat16`, for products in bfloat16, halves the
    gathering; weights that are not multiplied (norms, biases) are then rounded, so the losses are
    no longer those of one process. `activation_checkpoint`
    computes each block again in the backward pass instead of keeping its activations. `compile`
    compiles blocks, last layer, noise and loss; `auto`: on a GPU. No process waits for another
    longer than `timeout_minutes`, once the first step is done.
    """

    replicate: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    shard: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    reshard_after_forward: bool = False
    gather_dtype: Literal["float32", "bfloat16"] = "float32"
    activation_checkpoint: bool = False
    compile: bool | Literal["auto"] = "auto"
    timeout_minutes: float = Field(default=10.0, gt=0)
