"""How a run is spread over processes; it changes neither what is computed nor its result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rawdiff.settings import Settings


class ParallelSettings(Settings):
    """How several processes share a run; keys may be others each time that a run goes on.

    Every process holds `1 / shard` of the weights, gradients, moments and averages (FSDP2), and
    `replicate` groups of `shard` processes do the same with other samples.
    """

    replicate: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Groups that each hold all of the weights together. `auto`: one for each machine. [groups]"""
    shard: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Processes of a group, which share the weights. `auto`: those of one machine. [processes]"""
    reshard_after_forward: bool = False
    """Frees the gathered weights after each pass, forward and backward: less memory, but they are
    gathered twice in each micro-batch instead of once in a step."""
    gather_dtype: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`, for products in bfloat16, halves the gathering; weights that are not multiplied
    (norms, biases) are then rounded, so the losses are no longer those of one process."""
    activation_checkpoint: bool = False
    """Computes each block again in the backward pass instead of keeping its activations: less
    memory, more time."""
    compile: bool | Literal["auto"] = "auto"
    """Compiles blocks, last layer, noise and loss. `auto`: on a GPU."""
    timeout_minutes: float = Field(default=10.0, gt=0)
    """Longest time that a process waits for another, once the first step is done. [minutes]"""
