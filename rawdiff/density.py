"""How likely a model holds given samples, in the data's own units."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rawdiff import philox
from rawdiff.conditions import Conditions
from rawdiff.errors import UserError
from rawdiff.flow.likelihood import T_MIN, log_likelihood
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler


def log_density(
    sampler: Sampler,
    x: Tensor,
    index: Tensor,
    conditions: Conditions,
    settings: SampleSettings,
    num_probes: int = 1,
    cut: float | None = None,
) -> Tensor:
    """log p(x | conditions) in nats, float64 [B] on the CPU, of samples x [B, C, …] in data units.

    By the model at t = 1 - `cut` (default: `flow.t_eps`, up to which training went): of data with
    the noise that is left there, a density as good as any other. Of the values that are there
    (NaN: missing), given which those are. Whole numbers (an integer dtype) get uniform noise of
    one level, so that the density bounds the probability of the level. Noise and probes depend on
    the seed and the samples' numbers `index` [B] alone; as many probes as a sample has values are
    the unit vectors: the divergence is then exact. Of `settings` only `num_steps` and `seed` act.
    UserError for samples of which the model has no density.
    """
    cut = sampler.flow.t_eps if cut is None else cut
    if not 0 < cut < 1:
        raise UserError(f"The cut is a number between 0 and 1, found {cut}.")
    if sampler.patcher.geometry is not None:
        raise UserError(
            "These data lie in a subspace (their centre is fixed), where a density has another "
            "unit: their log-likelihood is not computed."
        )
    index, conditions = index.to(sampler.device), conditions.to(sampler.device)
    x = dequantized(x.to(sampler.device), index, settings.seed)
    z = sampler.patcher.adapter.patchify(sampler.patcher.standardize(x))
    known = _known(sampler, z)
    z, shape = z.nan_to_num(0.0), z.shape
    num_values = shape[1] * shape[2]
    exact = num_probes >= num_values

    def probe(number: int) -> Tensor:
        if exact:
            unit = torch.zeros(num_values, device=z.device)
            unit[number] = math.sqrt(num_values)
            return unit.view(1, *shape[1:]).expand(shape)
        stream = philox.Stream.PROBE + number
        return philox.signs(settings.seed, stream, index, num_values).view(shape)

    found = log_likelihood(
        sampler.denoiser(conditions, known, T_MIN),
        z,
        known,
        sampler.flow.noise_std,
        num_steps=settings.num_steps,
        cut=cut,
        probe=probe,
        num_probes=num_values if exact else num_probes,
    )
    std = sampler.patcher.statistics.x.std.double().log()
    of_channels = std.view(1, -1, *(1,) * (x.dim() - 2)) * ~x.isnan()
    return (found - of_channels.flatten(1).sum(-1)).cpu()


def num_values_of(x: Tensor) -> Tensor:
    """How many values of each sample x [B, C, …] are there: float64 [B]."""
    return (~x.isnan()).flatten(1).sum(-1).double()


def bits_per_value(log_p: Tensor, num_values: Tensor) -> Tensor:
    """-log2 p over the number of values, both [B]."""
    return -log_p / math.log(2) / num_values


def dequantized(x: Tensor, index: Tensor, seed: int) -> Tensor:
    """Samples x [B, C, …] as float32; to whole numbers is added what is uniform in (-0.5, 0.5).

    The mean of log p then is at most log P of the levels. (Theis et al. 2016, arXiv 1511.01844)
    """
    if x.is_floating_point():
        return x.float()
    noise = philox.uniform(seed, philox.Stream.DEQUANTIZE, index, x[0].numel()).view(x.shape)
    return x.float() + (noise - 0.5)


def _known(sampler: Sampler, z: Tensor) -> Tensor | None:
    """Which values are there; UserError where training data have others than these samples."""
    ever, known = sampler.patcher.known(len(z), z.device), ~z.isnan()
    if not bool(known.flatten(1).any(-1).all()):
        raise UserError("A sample holds nothing but missing values (NaN): leave it out.")
    if bool(z.isinf().any()):
        raise UserError("A sample holds infinite values, which have no likelihood.")
    if ever is None:
        if not bool(known.all()):
            raise UserError(
                "A sample has missing values (NaN), but this model was trained on data without "
                "any. Fill them, or leave the sample out."
            )
        return None
    varies = sampler.patcher.statistics.missing_varies
    if bool((known & ~ever).any()) or (not varies and not bool((known == ever).all())):
        raise UserError(
            "A sample has values where the training data have none, or none where they always "
            "have one: the model knows nothing of such samples. Give it the gaps of the data."
        )
    return known
