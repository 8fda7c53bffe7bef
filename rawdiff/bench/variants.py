"""What other values of a few keys would give, measured on steps of one micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from rawdiff.bench.budget import Budget
from rawdiff.bench.measured import Variant
from rawdiff.bench.samples import Samples
from rawdiff.bench.stand import with_parallel, with_sizes, with_train
from rawdiff.bench.steps import time_steps
from rawdiff.parallel.apply import is_compiled, parallelize
from rawdiff.parallel.processes import ALONE
from rawdiff.precision import multiplies_in_bfloat16
from rawdiff.train.loop import Loop

UNTIL = 0.7  # of the time, for all but compiling
COMPILING = 15.0  # seconds that must be left to begin with it
MUCH_SLOWER = 10  # so many times a step may take in another precision


def try_variants(
    loop: Loop, samples: Samples, micro_batch: int, budget: Budget
) -> Iterator[Variant]:
    """Those for which there is time; afterwards the loop is not what it was."""
    loop, device = with_sizes(loop, micro_batch, 1), loop.state.device
    batches = samples.batches(micro_batch)

    def seconds(loop: Loop) -> float:
        warm = time_steps(loop, batches, 1)
        return time_steps(loop, batches, min(budget.num_steps(warm, UNTIL), 10))

    base = seconds(loop)
    precision = loop.state.recipe.train.precision
    in_float32 = not multiplies_in_bfloat16(precision, device.type)
    if in_float32 and budget.left() > MUCH_SLOWER * base:
        other = seconds(with_train(loop, precision="bfloat16"))
        yield Variant("train.precision=bfloat16", base / other)
        loop = with_train(loop, precision=precision)
    if not loop.state.network.units:
        return
    if is_compiled(loop.state.recipe.parallel, device):
        with torch.compiler.set_stance("force_eager"):
            yield Variant("parallel.compile=false", base / seconds(loop))
    elif budget.left() > COMPILING:
        loop = with_parallel(loop, compile=True)
        # Recomputing is there already, inside of what is compiled.
        settings = loop.state.recipe.parallel.model_copy(update={"activation_checkpoint": False})
        parallelize(loop.state.network, settings, ALONE, device)
        yield _compiled(loop, base, seconds)


def _compiled(loop: Loop, base: float, seconds: Callable[[Loop], float]) -> Variant:
    key = "parallel.compile=true"
    try:
        return Variant(key, base / seconds(loop))
    except Exception as error:  # whatever the compiler of this machine runs into
        return Variant(key, None, f"{type(error).__name__}: {str(error).strip():.100}")
