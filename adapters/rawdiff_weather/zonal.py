"""Zonal power spectra: how much of the variance along a latitude lies at which wavenumber."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rawdiff_weather.area import is_full_circle


class ZonalSpectrum:
    """Power along longitude, on a full circle or a part of it; of float64 values.

        P(k) = s_k |FFT_k(x)|² / W²

    for W longitudes, with s_k = 2, but 1 at k = 0 and at k = W/2: two waves, k and -k, share a
    line. On a full circle Σ_k P(k) is the mean of x² along the row (Parseval), as in
    WeatherBench 2, there times the circle's length. A part of the circle, or uneven longitudes,
    is not periodic: its mean is taken away and a Hann window w laid over it, divided by its root
    mean square, so that white noise keeps its power; then P(0) tells nothing.

    `wavenumbers` [W // 2 + 1] are in waves around the whole Earth.
    """

    def __init__(self, longitudes: Sequence[float]) -> None:
        W = len(longitudes)
        k = torch.arange(W // 2 + 1, dtype=torch.float64)
        self.num_longitudes = W
        self.closed = is_full_circle(longitudes)
        if self.closed or W == 1:
            self.wavenumbers = k
        else:
            span = (torch.tensor(list(longitudes), dtype=torch.float64).diff() % 360).mean() * W
            self.wavenumbers = k * 360 / span
        self.sides = torch.where((k == 0) | (2 * k == W), 1.0, 2.0).double()
        i = torch.arange(W, dtype=torch.float64)
        hann = (torch.pi * (i + 0.5) / W).sin().square()
        self.window = hann / hann.square().mean().sqrt()

    def __call__(self, x: Tensor) -> Tensor:
        """P [..., K] of x [..., W], in squares of its unit."""
        if not self.closed:
            x = (x - x.mean(-1, keepdim=True)) * self.window.to(x)
        modes = torch.view_as_real(torch.fft.rfft(x, norm="forward"))
        return modes.square().sum(-1) * self.sides.to(x)
