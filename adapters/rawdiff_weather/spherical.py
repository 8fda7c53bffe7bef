"""Power spectra on the sphere: how much of the variance lies at which degree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rawdiff_weather.area import is_full_circle
from rawdiff_weather.axes import Floats
from rawdiff_weather.sphere import Harmonics

MAX_ROWS = 256  # the tables of polynomials grow with the third power


class SphericalSpectrum:
    """Power by degree n of whole fields [..., H, W], up to half the number of rows.

        P(n) = 1/2 Σ_m s_m |c_nm|²,   s_0 = 1, else 2

    for the coefficients c of `sphere.Harmonics`, so that Σ_n P(n) is the mean square over the
    sphere of a field that has no higher degree. Coefficients come from the quadrature over the
    rows that is exact for all polynomials of less than H degrees (Clenshaw and Curtis 1960, where
    rows lie on the poles).
    """

    def __init__(self, latitudes: Sequence[float], longitudes: Sequence[float]) -> None:
        mu = np.sin(np.deg2rad(latitudes))
        truncation = min((len(mu) - 1) // 2, (len(longitudes) - 1) // 2)
        weights = _quadrature(np.asarray(latitudes))
        self._harmonics = Harmonics(truncation, mu, len(longitudes), weights)
        sides = np.where(self._harmonics.order == 0, 1.0, 2.0)
        self._sides = torch.from_numpy(sides / 2)
        self.degrees = list(range(truncation + 1))

    @staticmethod
    def fits(latitudes: Sequence[float], longitudes: Sequence[float]) -> bool:
        """Whether even rows go from pole to pole and around, and are few enough."""
        phi = np.asarray(latitudes)
        if not 4 <= len(phi) <= MAX_ROWS or not is_full_circle(longitudes):
            return False
        steps = np.abs(np.diff(phi))
        reaches = np.abs(phi).max() + steps[0] > 90 - 1e-3 and abs(phi[0] + phi[-1]) < 1e-3
        return bool(reaches and np.allclose(steps, steps[0], atol=1e-3))

    def __call__(self, x: Tensor) -> Tensor:
        """P [..., N] of x [..., H, W], on the CPU."""
        fields = x.double().cpu().reshape(-1, *x.shape[-2:]).numpy()
        c = torch.from_numpy(self._harmonics.coefficients(fields))
        power = (torch.view_as_real(c).square().sum(-1) * self._sides).sum(1)  # over orders
        return power.reshape(*x.shape[:-2], -1)


def _quadrature(latitudes: Floats) -> Floats:
    """Weights [H] over sin(latitude) that integrate polynomials of degree < H exactly."""
    H = len(latitudes)
    values = np.polynomial.legendre.legvander(np.sin(np.deg2rad(latitudes)), H - 1)
    whole = np.zeros(H)
    whole[0] = 2.0  # of the polynomial 1; all others integrate to 0
    solved: Floats = np.linalg.solve(values.T, whole).astype(np.float64)
    return solved
