"""Spherical harmonics: smooth fields on the sphere as coefficients, their winds and slopes exact.

    F(λ, μ) = sum over m, n of c_nm P_nm(μ) e^(imλ),   μ = sin(latitude),   |m| <= n <= T

with P_nm normalized to an integral of P² over μ of 1. A real field needs m >= 0 alone.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Real: TypeAlias = npt.NDArray[np.float64]
Complex: TypeAlias = npt.NDArray[np.complex128]


class Harmonics:
    """Of degree up to T = `truncation`, at latitudes with sines `mu` [H] and W even longitudes.

    Coefficients are [K, T + 1, T + 1] of K fields by order m, then degree n, 0 where n < m.
    `weights` [H] of a quadrature over μ are needed for the way back from fields to coefficients.
    """

    def __init__(
        self, truncation: int, mu: Real, num_longitudes: int, weights: Real | None = None
    ) -> None:
        self.mu, self.num_longitudes = mu, num_longitudes
        self.degree = np.arange(truncation + 1)
        self.order = np.arange(truncation + 1)[:, None]
        self._p, self._slope = _legendre(truncation, mu)
        if weights is not None:
            self._back = (self._p * weights).transpose(0, 2, 1)
            self._slope_back = (self._slope * weights).transpose(0, 2, 1)

    @classmethod
    def gaussian(cls, truncation: int, num_latitudes: int, num_longitudes: int) -> Harmonics:
        """On latitudes where products of two fields are integrated without error.

        That takes more than 3 T / 2 latitudes and 3 T longitudes.
        """
        assert num_latitudes > 3 * truncation / 2
        assert num_longitudes > 3 * truncation
        mu, weights = np.polynomial.legendre.leggauss(num_latitudes)
        return cls(truncation, mu, num_longitudes, weights)

    def field(self, c: Complex) -> Real:
        """F [K, H, W] of coefficients."""
        return self._to_grid(c, self._p)

    def slope(self, c: Complex) -> Real:
        """(1 - μ²) ∂F/∂μ = cos(latitude) ∂F/∂latitude, [K, H, W]."""
        return self._to_grid(c, self._slope)

    def along(self, c: Complex) -> Complex:
        """Coefficients of ∂F/∂λ."""
        return 1j * self.order * c

    def coefficients(self, field: Real) -> Complex:
        """Inverse of `field`."""
        return self._from_grid(field, self._back)

    def divergence(self, a: Real, b: Real) -> Complex:
        """Of (∂A/∂λ + (1 - μ²) ∂B/∂μ) / (1 - μ²), by parts: A and B [K, H, W] must vanish at poles.

        On a sphere of radius 1, A and B are cos(latitude) times a flux to the east and north.
        """
        inside = (1 - self.mu**2)[:, None]
        along = self.along(self._from_grid(a / inside, self._back))
        return along - self._from_grid(b / inside, self._slope_back)

    def laplacian(self) -> Real:
        """Eigenvalues -n (n + 1) [T + 1] by degree, on a sphere of radius 1."""
        return np.array(-1.0 * self.degree * (self.degree + 1), dtype=np.float64)

    def inverse_laplacian(self) -> Real:
        """As `laplacian`; 0 for the mean, which has no inverse."""
        n = self.degree
        return np.where(n > 0, -1.0 / np.maximum(n * (n + 1), 1), 0.0)

    def _to_grid(self, c: Complex, p: Complex) -> Real:
        waves = np.matmul(c.transpose(1, 0, 2), p)  # [M, K, H]
        return np.fft.irfft(waves, self.num_longitudes, axis=0, norm="forward").transpose(1, 2, 0)

    def _from_grid(self, field: Real, p: Complex) -> Complex:
        waves = np.fft.rfft(field, axis=-1, norm="forward")[..., : len(self.degree)]
        return np.matmul(waves.transpose(2, 0, 1), p).transpose(1, 0, 2)


def _legendre(truncation: int, mu: Real) -> tuple[Complex, Complex]:
    """P_nm(μ) and (1 - μ²) dP_nm/dμ: [m, n, H], complex so that products need no conversion."""
    size = truncation + 2  # the slope needs one degree more
    p = np.zeros((size, size, len(mu)))
    n = np.arange(size + 1.0)
    square = np.maximum(n**2 - n[:, None] ** 2, 0)
    epsilon = np.sqrt(square / (4 * n**2 - 1).clip(1))  # [m, n]
    p[0, 0] = np.sqrt(0.5)
    for m in range(size):
        if m:
            p[m, m] = np.sqrt((2 * m + 1) / (2 * m) * (1 - mu**2)) * p[m - 1, m - 1]
        for k in range(m + 1, size):
            before = p[m, k - 2] if k > m + 1 else 0.0
            p[m, k] = (mu * p[m, k - 1] - epsilon[m, k - 1] * before) / epsilon[m, k]
    degree = np.arange(truncation + 1.0)
    kept = slice(0, truncation + 1)
    upper = (degree * epsilon[kept, 1 : truncation + 2])[..., None] * p[kept, 1:]
    lower = np.zeros_like(upper)
    lower[:, 1:] = ((degree + 1) * epsilon[kept, kept])[:, 1:, None] * p[kept, :-2]
    return p[kept, kept].astype(complex), (lower - upper).astype(complex)
