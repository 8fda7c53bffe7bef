"""Is what was compiled still the same function? Asked with the first batch, before the first step.

Gradients are compared, too: a wrong backward pass would spoil a run in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from rawdiff import philox
from rawdiff.data.dataset import Batch
from rawdiff.errors import UserError
from rawdiff.model.network import Network
from rawdiff.parallel.apply import is_compiled, local, whole
from rawdiff.precision import multiplies_in_bfloat16
from rawdiff.train.step import Training

FLOAT32_TOLERANCE, BFLOAT16_TOLERANCE = 1e-3, 5e-2
"""Of gradients, relative to their norm; seen on a CPU (width 384, depth 6): 10⁻⁷ and 2e-3."""
NUM_PARTS = 4  # in which eager code takes the samples, as it needs more memory
STD = 0.02


def check_compiled(training: Training, batch: Batch) -> None:
    """UserError unless compiled and eager code agree on a micro-batch, or if it does not compile.

    Does nothing where nothing is compiled. The state stays as it is; weights that are zero, as many
    are at first, are random meanwhile, as nothing that could be compared passes through zeros.
    """
    state = training.state
    parallel, train = state.recipe.parallel, state.recipe.train
    if not is_compiled(parallel, state.device):
        return
    micro_batch = batch.split(train.micro_batch_size or len(batch))[0]
    with _random_for_zero(state.network):
        with compiling():
            loss, gradients = _measure(training, micro_batch, len(micro_batch))
        with torch.compiler.set_stance("force_eager"):
            eager = _measure(training, micro_batch, -(-len(micro_batch) // NUM_PARTS))
    expected_loss, expected = eager
    if not bool(expected_loss.isfinite()):
        return  # of samples that the guard will judge
    difference = max(_relative([loss], [expected_loss]), _relative(gradients, expected))
    in_bfloat16 = multiplies_in_bfloat16(train.precision, state.device.type)
    if not difference < (BFLOAT16_TOLERANCE if in_bfloat16 else FLOAT32_TOLERANCE):
        raise UserError(
            f"The compiled network is another function than the one that is not compiled: a loss "
            f"of {float(loss):.6g} for {float(expected_loss):.6g}, the largest relative difference "
            f"is {difference:.2g}. This is a fault of the compiler of torch {torch.__version__}: "
            "write `parallel.compile: false`, or try another version."
        )


@contextmanager
def compiling() -> Iterator[None]:
    """UserError with the cure if what runs inside cannot be compiled on this machine."""
    try:
        yield
    except (TorchDynamoException, InductorError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise UserError(
            f"The network cannot be compiled here: {reason:.300}. Write `parallel.compile: "
            "false`, or mend what is missing (such as a C++ compiler)."
        ) from error


def _measure(training: Training, batch: Batch, size: int) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a batch in micro-batches of a size; nothing is left of them."""
    sums = training.compute_gradients(batch, size)
    network = training.state.network
    gradients = [whole(p.grad) for p in network.parameters() if p.grad is not None]
    training.state.optimizer.zero_grad()
    return sums.loss, gradients


def _relative(found: list[Tensor], expected: list[Tensor]) -> float:
    """The norm of the difference relative to what is expected."""
    squares = [
        torch.stack(((a - b).square().sum(), b.square().sum()))
        for a, b in zip(found, expected, strict=True)
    ]
    difference, size = torch.stack(squares).double().sum(0).tolist()
    return float((difference / size) ** 0.5) if size else float(difference > 0)


@contextmanager
def _random_for_zero(network: Network) -> Iterator[None]:
    """Weights (or what this process holds of one) that are all zero are random inside."""
    zeros: list[Tensor] = []
    for name, parameter in network.named_parameters():
        values = local(parameter.detach())
        if values.numel() and not bool(values.any()):
            index = philox.name_index(name, values.device)
            noise = philox.normal(0, philox.Stream.WEIGHTS, index, values.numel())
            values.copy_(STD * noise.view_as(values))
            zeros.append(values)
    try:
        yield
    finally:
        for values in zeros:
            values.zero_()
