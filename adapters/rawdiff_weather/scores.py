"""Scores of ensemble forecasts, added up init by init: by channel, lead and region.

For one lead, with w_p the area of point p, over all inits and all points whose truth and members
are all known; x̄ is the mean of M members, s² = Σ_m (x_m - x̄)² / (M - 1), y the truth, c the
climatology, ⟨·⟩ the mean over points and inits with weights w:

    rmse            ⟨(x̄ - y)²⟩^½
    bias            ⟨x̄ - y⟩
    mae             ⟨|x̄ - y|⟩
    crps, fair_crps ⟨CRPS⟩ (Hersbach 2000), and as of an endless ensemble (Ferro 2014)
    spread          ((M + 1) / M ⟨s²⟩)^½
    spread_skill    spread / rmse; 1 if members and truth are alike (Fortin et al. 2014)
    rank histogram  share of the area in which j members lie below the truth (Hamill 2001)

So squares are averaged before the root is taken. These are means over inits of each one's value:

    rmse_per_init   (Σ_p w (x̄ - y)² / Σ_p w)^½; never above rmse
    acc             Σ_p w (x̄ - c)(y - c) / (Σ_p w (x̄ - c)² Σ_p w (y - c)²)^½, where c is known
                    (uncentred, as in WeatherBench 2: Rasp et al. 2024)
    energy_score, fair_energy_score   (Gneiting and Raftery 2007, eq. 22)

`coverage` is the share of the known truth's area that was scored: below 1, members were missing.
`num_inits` counts inits with any point scored. What is not defined is NaN: `fair_crps`, spread and
`fair_energy_score` of one member, acc without climatology, all but the counts of an empty region.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff_weather.area import area_weights, latitude_regions
from rawdiff_weather.ensemble import crps, energy_score, rank_weights
from rawdiff_weather.spherical import SphericalSpectrum
from rawdiff_weather.zonal import ZonalSpectrum

Sums: TypeAlias = dict[str, Tensor]
Row: TypeAlias = dict[str, Any]


class ForecastScores:
    """Sums of scores of forecasts with M members; memory does not grow with the number of inits.

    Channels are named `variable` or `variable@level`. `regions` are masks or weights [H, W] by
    name (default: `latitude_regions`) and multiply `weights` [H, W] (default: `area_weights`).
    A lead is a whole number in a unit of the caller's choice. `sums` are float64 on the CPU, by
    lead and name, so that those of several processes can be merged in any order.
    """

    def __init__(
        self,
        channels: Sequence[str],
        latitudes: Sequence[float],
        longitudes: Sequence[float],
        *,
        num_members: int,
        regions: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self.channels = tuple(channels)
        self.latitudes = tuple(float(value) for value in latitudes)
        self.longitudes = tuple(float(value) for value in longitudes)
        self.num_members = num_members
        size = len(self.latitudes), len(self.longitudes)
        weights = area_weights(self.latitudes, size[1]) if weights is None else weights
        regions = latitude_regions(self.latitudes, size[1]) if regions is None else regions
        for name, values in {"weights": weights, **regions}.items():
            if values.shape != size or not bool((values >= 0).all()):  # False for NaN
                raise UserError(
                    f"The weights of `{name}` have shape {list(values.shape)} on a grid of "
                    f"{list(size)}, or are negative or NaN. Give 0 or more for each grid point."
                )
        self.regions = {name: mask.cpu() for name, mask in regions.items()}
        self.weights = weights.double().cpu()
        masks = [mask.double() for mask in self.regions.values()]
        self._region_weights = torch.stack(masks) * self.weights  # [R, H, W]
        self._spectrum = ZonalSpectrum(self.longitudes)
        fits = SphericalSpectrum.fits(self.latitudes, self.longitudes)
        self._spherical = SphericalSpectrum(self.latitudes, self.longitudes) if fits else None
        self.sums: dict[int, Sums] = {}

    def update(
        self, lead: int, forecast: Tensor, truth: Tensor, climatology: Tensor | None = None
    ) -> None:
        """Adds one init: members [M, C, H, W], truth and climatology [C, H, W], NaN if missing."""
        self._check_shapes(forecast, truth, climatology)
        if forecast.device.type == "mps":  # has no float64
            forecast = forecast.cpu()
        device = forecast.device
        self._region_weights = self._region_weights.to(device)
        parts = []
        for c in range(len(self.channels)):
            x, y = forecast[:, c].double(), truth[c].to(device, torch.float64)
            mean_state = None if climatology is None else climatology[c].to(device, torch.float64)
            parts.append(self._of_channel(x, y, mean_state))
        self._add(lead, {name: torch.stack([p[name] for p in parts]).cpu() for name in parts[0]})

    def _of_channel(self, x: Tensor, y: Tensor, climatology: Tensor | None) -> Sums:
        """All sums of members x [M, H, W] and truth y [H, W], each [R] or [R, …]."""
        known = ~(x.isnan().any(0) | y.isnan())
        w = (self._region_weights * known).flatten(1)
        d = torch.where(known, x - y, 0.0).flatten(1)
        sums = _sums_over_points(d, w)
        sums["truth_weight"] = (self._region_weights * ~y.isnan()).sum((1, 2))
        sums["ranks"] = rank_weights(d, w)

        scored = sums["weight"] > 0
        energy, fair_energy = energy_score(d, w)
        sums["inits"] = scored.double()
        sums["root_of_init"] = (sums["squared_error"] / sums["weight"]).sqrt()
        sums["energy"], sums["fair_energy"] = energy, fair_energy
        for name in ("root_of_init", "energy", "fair_energy"):
            sums[name] = torch.where(scored, sums[name], 0.0)
        sums |= self._correlation(x.mean(0), y, climatology, known)
        return sums | self._spectra(x, y, known)

    def _correlation(
        self, mean: Tensor, y: Tensor, climatology: Tensor | None, known: Tensor
    ) -> Sums:
        if climatology is None:
            none = self._region_weights.new_zeros(len(self.regions))
            return {"acc": none, "acc_inits": none}
        known = known & ~climatology.isnan()
        w = self._region_weights.flatten(1)
        a, b = (torch.where(known, z - climatology, 0.0).flatten() for z in (mean, y))
        product, a_squared, b_squared = (w @ torch.stack([a * b, a * a, b * b], dim=-1)).unbind(-1)
        norm = (a_squared * b_squared).sqrt()
        defined = norm != 0  # True for NaN, which must show
        return {
            "acc": torch.where(defined, product / norm, 0.0),
            "acc_inits": defined.double(),
        }

    def _spectra(self, x: Tensor, y: Tensor, known: Tensor) -> Sums:
        """Over whole rows: of regions that go round the grid, and where nothing is missing."""
        w = self._region_weights
        round_the_grid = (w == w[..., :1]).all(-1).all(-1)  # [R]
        w = w[..., 0] * round_the_grid[:, None] * known.all(-1)  # [R, H]
        fields = {"members": x, "mean": x.mean(0, keepdim=True), "truth": y[None]}
        sums = {
            f"power_of_{name}": w @ self._spectrum(field.nan_to_num(nan=0.0)).mean(0)
            for name, field in fields.items()
        }
        if self._spherical is not None:
            whole = known.all().double()
            sums["whole_fields"] = whole
            for name, field in fields.items():
                power = self._spherical(field.nan_to_num(nan=0.0)).mean(0).to(whole.device)
                sums[f"spherical_power_of_{name}"] = whole * power
        return {"row_weight": w.sum(-1), **sums}

    def merge(self, other: ForecastScores) -> None:
        """Adds the sums of another part of the same forecasts. UserError if the two differ."""
        mine, others = self._setting(), other._setting()
        differ = [name for name in mine if mine[name] != others[name]]
        same_area = mine["regions"] == others["regions"] and torch.equal(
            self._region_weights.cpu(), other._region_weights.cpu()
        )
        if differ or not same_area:
            raise UserError(
                f"Scores of different forecasts cannot be merged: they differ in "
                f"{', '.join(differ) or 'the weights of points'}. Score both in the same way."
            )
        for lead, sums in other.sums.items():
            self._add(lead, sums)

    def _add(self, lead: int, sums: Sums) -> None:
        old = self.sums.get(lead)
        self.sums[lead] = sums if old is None else {k: old[k] + sums[k] for k in sums}

    def _setting(self) -> dict[str, Any]:
        return {
            "channels": list(self.channels),
            "latitudes": list(self.latitudes),
            "longitudes": list(self.longitudes),
            "members": self.num_members,
            "regions": list(self.regions),
        }

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data and CPU tensors, which `torch.load` reads safely."""
        sums = {lead: dict(values) for lead, values in self.sums.items()}
        return {
            **self._setting(),
            "regions": dict(self.regions),
            "weights": self.weights,
            "sums": sums,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ForecastScores:
        """What `state_dict` gave, ready for more updates."""
        scores = cls(
            state["channels"],
            state["latitudes"],
            state["longitudes"],
            num_members=state["members"],
            regions=state["regions"],
            weights=state["weights"],
        )
        scores.sums = {lead: dict(sums) for lead, sums in state["sums"].items()}
        return scores

    def result(self) -> dict[str, list[Row]]:
        """Plain rows for a table, CSV or JSON, by lead, channel and region.

        All have `variable`, `level` (None at the surface), `lead` and `region`. Those of `scores`
        have `score` and `value`, in the names above and the channel's unit; of `ranks` the
        `frequencies` [M + 1], which sum to 1; of `spectra` the `wavenumbers` [K] around the Earth
        and the power of `members` (mean over them), of their `mean` and of `truth`, each [K], for
        the regions that have one; of `spherical_spectra` the same by `degrees`, for whole globes of
        few enough rows (`SphericalSpectrum.fits`) where nothing is missing.
        """
        tables: dict[str, list[Row]] = {
            "scores": [], "ranks": [], "spectra": [], "spherical_spectra": [],
        }  # fmt: skip
        for lead in sorted(self.sums):
            sums = self.sums[lead]
            scores = _scores_of_sums(sums, self.num_members)
            frequencies = sums["ranks"] / sums["weight"][..., None]
            for c, channel in enumerate(self.channels):
                variable, level = variable_and_level(channel)
                if self._spherical is not None and sums["whole_fields"][c] > 0:
                    place = {"variable": variable, "level": level, "lead": lead}
                    tables["spherical_spectra"].append({**place, **self._sphere_of_sums(sums, c)})
                for r, region in enumerate(self.regions):
                    place = {"variable": variable, "level": level, "lead": lead, "region": region}
                    tables["scores"] += [
                        {**place, "score": name, "value": float(values[c, r])}
                        for name, values in scores.items()
                    ]
                    tables["ranks"].append({**place, "frequencies": frequencies[c, r].tolist()})
                    if sums["row_weight"][c, r] > 0:
                        spectra = self._spectra_of_sums(sums, c, r)
                        tables["spectra"].append({**place, **spectra})
        return tables

    def _spectra_of_sums(self, sums: Sums, c: int, r: int) -> Row:
        power = {
            name: (sums[f"power_of_{name}"][c, r] / sums["row_weight"][c, r]).tolist()
            for name in ("members", "mean", "truth")
        }
        return {"wavenumbers": self._spectrum.wavenumbers.tolist(), **power}

    def _sphere_of_sums(self, sums: Sums, c: int) -> Row:
        assert self._spherical is not None
        power = {
            name: (sums[f"spherical_power_of_{name}"][c] / sums["whole_fields"][c]).tolist()
            for name in ("members", "mean", "truth")
        }
        return {"region": "global", "degrees": self._spherical.degrees, **power}

    def _check_shapes(self, forecast: Tensor, truth: Tensor, climatology: Tensor | None) -> None:
        one = (len(self.channels), len(self.latitudes), len(self.longitudes))
        expected = {"forecast": (self.num_members, *one), "truth": one, "climatology": one}
        found = {"forecast": forecast, "truth": truth, "climatology": climatology}
        for name, values in found.items():
            if values is not None and tuple(values.shape) != expected[name]:
                raise UserError(
                    f"The {name} has shape {list(values.shape)}, but scores were set up for "
                    f"{list(expected[name])}: [members,] channels, latitudes, longitudes. "
                    "Cut it to the same channels and grid, or set up scores for this one."
                )


def variable_and_level(channel: str) -> tuple[str, int | float | None]:
    """`geopotential@500` as ("geopotential", 500); without a level as (name, None)."""
    variable, at, level = channel.rpartition("@")
    if not at:
        return channel, None
    value = float(level)
    return variable, int(value) if value.is_integer() else value


def _sums_over_points(d: Tensor, weights: Tensor) -> Sums:
    """Sums [R] of scores of single points, of errors d [M, P] with weights [R, P]."""
    error = d.mean(0)
    ordinary, fair = crps(d)
    at_points = {
        "weight": torch.ones_like(error),
        "squared_error": error.square(),
        "error": error,
        "absolute_error": error.abs(),
        "variance": d.var(0) if len(d) > 1 else torch.full_like(error, math.nan),
        "crps": ordinary,
        "fair_crps": fair,
    }
    sums = weights @ torch.stack(list(at_points.values()), dim=-1)
    return dict(zip(at_points, sums.unbind(-1), strict=True))


def _scores_of_sums(sums: Sums, M: int) -> Sums:
    """The scores at the head of this file, each [C, R]."""
    weight, inits = sums["weight"], sums["inits"]
    rmse = (sums["squared_error"] / weight).sqrt()
    spread = ((M + 1) / M * sums["variance"] / weight).sqrt()
    return {
        "rmse": rmse,
        "rmse_per_init": sums["root_of_init"] / inits,
        "bias": sums["error"] / weight,
        "mae": sums["absolute_error"] / weight,
        "acc": sums["acc"] / sums["acc_inits"],
        "crps": sums["crps"] / weight,
        "fair_crps": sums["fair_crps"] / weight,
        "spread": spread,
        "spread_skill": spread / rmse,
        "energy_score": sums["energy"] / inits,
        "fair_energy_score": sums["fair_energy"] / inits,
        "coverage": weight / sums["truth_weight"],
        "num_inits": inits,
    }
