"""A small atmosphere: one layer of air on the turning Earth, stirred by storms, with a mountain.

    ∂ζ/∂t + ∇·(u (ζ + f + f h/H)) = S - r (ζ - ζ_jet) - ν (-∇²)^4 ζ,   ζ = ∇²ψ,   u = k × ∇ψ

is the barotropic vorticity equation: waves move with the wind and against it, break and feed the
jets, and forecasts lose their skill after days. The stirring S is that of Vallis et al. 2004
(doi:10.1175/1520-0469(2004)061<0264:AMASDM>2.0.CO;2): random waves of medium length that are
remembered for days, in the storm tracks of both hemispheres, where the jets blow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rawdiff_weather.sphere import Complex, Harmonics, Real

RADIUS = 6.371e6  # m
OMEGA = 7.292e-5  # 1/s
GRAVITY = 9.80665  # m/s²
DAY = 86_400.0


@dataclass(frozen=True)
class Air:
    """Numbers of the equation above, in SI units; `num_steps_a_day` of Runge and Kutta."""

    truncation: int = 31
    num_steps_a_day: int = 12
    drag_days: float = 12.0
    jet: float = 30.0  # m/s
    diffusion_days: float = 0.1  # in which the shortest waves fade
    stirring: float = 2e-10  # 1/s²
    stirring_days: float = 4.0
    stirred_degrees: tuple[int, int] = (6, 12)
    storm_track: tuple[float, float] = (45.0, 12.0)  # degrees: where, and how wide; jets too
    mountain_height: float = 0.25  # of that of the air
    mountain: tuple[float, float, float] = (45.0, 90.0, 15.0)  # degrees: where, and how wide


class Flow:
    """Vorticity and stirring over time, from the jets alone; all randomness is that of `seed`."""

    def __init__(self, air: Air, seed: int) -> None:
        self.air = air
        T = air.truncation
        self.grid = Harmonics.gaussian(T, 3 * T // 2 + 1, 3 * T + 1)
        self._storm_track = _bump(_degrees(self.grid.mu), *air.storm_track)
        self._jet = self._of_jet()
        self.vorticity: Complex = self._jet.copy()  # [1, T + 1, T + 1], 1/s
        self._random = np.random.default_rng(seed)
        self._waves = np.zeros_like(self.vorticity)
        self._coriolis = 2 * OMEGA * self.grid.mu[:, None] * (1 + mountain(air, self.grid))
        eigenvalues = (self.grid.laplacian() / self.grid.laplacian()[-1]) ** 4
        self._fading = 1 / (air.drag_days * DAY) + eigenvalues / (air.diffusion_days * DAY)

    def step(self) -> None:
        """One of Runge and Kutta with the same stirring throughout; then all waves fade."""
        dt = DAY / self.air.num_steps_a_day
        S, z = self._stir(dt), self.vorticity
        k1 = self.tendency(z) + S
        k2 = self.tendency(z + dt / 2 * k1) + S
        k3 = self.tendency(z + dt / 2 * k2) + S
        k4 = self.tendency(z + dt * k3) + S
        z = z + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4) - self._jet
        self.vorticity = self._jet + z * np.exp(-self._fading * dt)

    def tendency(self, vorticity: Complex) -> Complex:
        """-∇·(u (ζ + f + f h/H)), 1/s²: what the wind carries."""
        u, v = wind(self.grid, vorticity)
        absolute = self.grid.field(vorticity) + self._coriolis
        return -self.grid.divergence(u * absolute, v * absolute) / RADIUS

    def _of_jet(self) -> Complex:
        """Vorticity of westerly jets in the storm tracks."""
        u = self.air.jet * self._storm_track * np.ones(self.grid.num_longitudes)
        along = u * np.sqrt(1 - self.grid.mu**2)[:, None]
        return self.grid.divergence(np.zeros_like(along)[None], -along[None]) / RADIUS

    def _stir(self, dt: float) -> Complex:
        air, grid = self.air, self.grid
        memory = np.exp(-dt / (air.stirring_days * DAY))
        drawn = self._random.normal(size=(2, *self._waves.shape))
        least, most = air.stirred_degrees
        chosen = (grid.degree >= np.maximum(grid.order, least)) & (grid.degree <= most)
        new = (drawn[0] + 1j * drawn[1]) * (chosen & (grid.order > 0))
        self._waves = memory * self._waves + np.sqrt(1 - memory**2) * new
        amplitude = air.stirring / np.sqrt(4 * chosen.sum())
        return grid.coefficients(self._storm_track * grid.field(amplitude * self._waves))


def wind(grid: Harmonics, vorticity: Complex) -> tuple[Real, Real]:
    """To the east and to the north, times cos(latitude): each [1, H, W], m/s."""
    stream = grid.inverse_laplacian() * RADIUS * vorticity
    return -grid.slope(stream), grid.field(grid.along(stream))


def geopotential(grid: Harmonics, vorticity: Complex) -> Complex:
    """Coefficients of Φ without its mean, m²/s²: what keeps the wind free of divergence.

    ∇²(Φ + |u|²/2) = k · ∇ × ((ζ + f) u)
    """
    u, v = wind(grid, vorticity)
    absolute = grid.field(vorticity) + 2 * OMEGA * grid.mu[:, None]
    curl = grid.divergence(v * absolute, -u * absolute)
    energy = grid.coefficients((u**2 + v**2) / (2 * (1 - grid.mu**2)[:, None]))
    balanced = grid.inverse_laplacian() * RADIUS * curl - energy
    balanced[:, 0, 0] = 0
    return balanced


def mountain(air: Air, grid: Harmonics) -> Real:
    """h/H [H, W]: one round mountain."""
    latitude, longitude, width = air.mountain
    here = np.deg2rad(_degrees(grid.mu))
    there = np.deg2rad(latitude)
    away = 2 * np.pi * np.arange(grid.num_longitudes) / grid.num_longitudes - np.deg2rad(longitude)
    cosine = np.sin(here) * np.sin(there) + np.cos(here) * np.cos(there) * np.cos(away)
    return air.mountain_height * _bump(np.rad2deg(np.arccos(cosine.clip(-1, 1))), 0.0, width)


def _degrees(mu: Real) -> Real:
    return np.rad2deg(np.arcsin(mu))[:, None]


def _bump(degrees: Real, middle: float, width: float) -> Real:
    return np.exp(-(((np.abs(degrees) - middle) / width) ** 2))
