"""Radial power spectra: how much of the variance lies at which scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.evaluate.evaluator import Basis, Evaluator

FLOOR = 1e-12
VALUES_AT_ONCE = 2**22


class Spectrum(Evaluator):
    """Distance of radial power spectra, in powers of ten; lower is better.

        mean over wavenumbers and channels of |log10 P_s(k) - log10 P_r(k)|

    0.3 means that power is wrong by a factor of two at a typical scale. Too smooth samples lack
    power at large k, grid artefacts show as peaks. A missing value counts as its channel's mean.
    Power under 1e-12 of a channel's variance counts as that much.
    """

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return ("",)

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        k, power = radial_spectrum(samples, basis)
        _, power_reference = radial_spectrum(reference, basis)
        if not len(k):
            return {}
        floor = FLOOR * basis.std.double().to(power.device).square()[:, None]
        ratio = power.maximum(floor).log10() - power_reference.maximum(floor).log10()
        return {"": float(ratio.abs().mean())}


def radial_spectrum(x: Tensor, basis: Basis) -> tuple[Tensor, Tensor]:
    """Wavenumbers k [K], in cycles per grid step, and power P [C, K] of raw x [n, C, …].

        P(k) = mean over samples and |f| ≈ k of |FFT(w (x - mean))|² / sum of w²

    over all dims after the channels, so that white noise of variance σ² has P = σ² everywhere.
    Shells are as wide as the lowest frequency of the longest dim and reach into the corners;
    frequency zero is left out. w is a Hann window along every dim that is not periodic; missing
    values count as the channel's mean. P is float64, in squares of the channels' units.
    """
    sizes = x.shape[2:]
    window = _window(sizes, _periodic(x.shape[1:], basis)).to(x)
    mean = x.nanmean((0, *range(2, x.dim())), keepdim=True)
    power = torch.zeros(x.shape[1:], dtype=torch.float64, device=x.device)
    for part in torch.split(x, max(VALUES_AT_ONCE // x[0].numel(), 1)):
        values = (part - mean).nan_to_num_(nan=0.0).mul_(window)
        modes = torch.view_as_real(torch.fft.fftn(values, dim=tuple(range(2, x.dim()))))
        power += modes.square().sum((0, -1))
    power /= len(x) * window.square().sum()

    shell = _shells(sizes).flatten().to(x.device)
    counts = shell.bincount().double()
    total = torch.zeros(len(power), len(counts), dtype=torch.float64, device=x.device)
    total.index_add_(1, shell, power.flatten(1))
    used = counts.nonzero().flatten()[1:]  # without shell 0, the frequency zero
    return used / max(sizes), total[:, used] / counts[used]


def _periodic(shape: Sequence[int], basis: Basis) -> tuple[bool, ...]:
    """Which dims after the channels are circles: what the adapter says if it has one axis each."""
    if basis.adapter is None:
        return (False,) * (len(shape) - 1)
    axes = basis.adapter.axes(shape, basis.info.coordinates)
    if len(axes) != len(shape) - 1:
        return (False,) * (len(shape) - 1)
    return tuple(axis.period is not None for axis in axes)


def _window(sizes: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    """Product over dims of sin²(π (i + ½) / n), or of 1 along a periodic dim; never 0."""
    window = torch.ones(1, dtype=torch.float64)
    for size, closed in zip(sizes, periodic, strict=True):
        i = torch.arange(size, dtype=torch.float64)
        hann = (torch.pi * (i + 0.5) / size).sin().square()
        window = window[..., None] * (torch.ones_like(hann) if closed else hann)
    return window[0]


def _shells(sizes: Sequence[int]) -> Tensor:
    """The shell of each frequency: its length in units of the longest dim's lowest, rounded."""
    squared = torch.zeros((), dtype=torch.float64)
    for size in sizes:
        squared = squared[..., None] + torch.fft.fftfreq(size, dtype=torch.float64).square()
    return (squared.sqrt() * max(sizes)).round().long()
