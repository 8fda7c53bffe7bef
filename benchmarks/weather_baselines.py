"""Linear forecasts to compare with: python benchmarks/weather_baselines.py RECIPE [key=value ...]

For each lead of the recipe, fitted on its training years and judged at the held-out inits that
`rawdiff eval` takes: ridge regression of the whole field on the last known state, and a linear
inverse model of the 20 leading patterns of anomalies. Area-weighted root mean square errors.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from measure import write_result
from numpy.typing import NDArray
from rawdiff_weather.area import area_weights
from rawdiff_weather.dataset import WeatherDataset
from rawdiff_weather.evaluation import ForecastEvaluator, Trial
from rawdiff_weather.normal import climatology_of
from rawdiff_weather.rollout import stages

from rawdiff.assemble import open_data
from rawdiff.evaluate.choose import choose_evaluators
from rawdiff.recipe_file import load_recipe

PENALTY, NUM_PATTERNS = 100.0, 20
Reals = NDArray[np.float64]


class Linear:
    """Values that are never missing [T, C, P] of training and held-out years."""

    def __init__(self, train: WeatherDataset, held_out: WeatherDataset) -> None:
        normal, states = climatology_of(train.reader), []
        anomalies = []
        for data in (train, held_out):
            times = data.reader.plan.times
            states.append(data.reader.read(range(len(times))).astype(np.float64))
            usual = np.stack([normal.at(date).numpy() for date in times.datetime64])
            anomalies.append(states[-1] - usual)
        known = ~np.isnan(np.concatenate(states)).any((0, 1))
        self.states = [x[:, :, known] for x in states]
        self.anomalies = [x[:, :, known] for x in anomalies]
        plan = train.reader.plan
        area = area_weights(plan.latitude.tolist(), len(plan.longitude)).numpy()[known]
        self.area: Reals = area / area.sum()
        self.later = [data.reader.plan.times.later for data in (train, held_out)]

    def rmse(self, error: Reals) -> list[float]:
        """By channel, of errors [n, C, P]."""
        return [float(value) for value in np.sqrt((error**2 @ self.area).mean(0))]

    def ridge(self, lead: int, inits: list[int]) -> list[float]:
        mean, std = (getattr(self.states[0], name)(0) for name in ("mean", "std"))
        flat = [((x - mean) / std).reshape(len(x), -1) for x in self.states]
        here, there = self._pairs(lead)
        P = flat[0][here]
        weights = np.linalg.solve(P.T @ P + PENALTY * np.eye(P.shape[1]), P.T @ flat[0][there])
        predicted = (flat[1][inits] @ weights).reshape(-1, *mean.shape) * std + mean
        return self.rmse(self._truth(lead, inits) - predicted)

    def inverse_model(self, lead: int, inits: list[int]) -> list[float]:
        """By channel, each with patterns of its own."""
        found = []
        for channel in range(self.num_channels):
            train, held_out = (x[:, channel] for x in self.anomalies)
            root = np.sqrt(self.area)
            patterns = np.linalg.svd(train * root, full_matrices=False)[2][:NUM_PATTERNS]
            here, there = self._pairs(lead)
            amplitudes = (train * root) @ patterns.T
            step = np.linalg.lstsq(amplitudes[here], amplitudes[there], rcond=None)[0]
            predicted = ((held_out[inits] * root) @ patterns.T @ step) @ patterns / root
            error = held_out[self.later[1](lead)[inits]] - predicted
            found.append(float(np.sqrt((error**2 @ self.area).mean())))
        return found

    @property
    def num_channels(self) -> int:
        return self.states[0].shape[1]

    def _pairs(self, lead: int) -> tuple[Any, Any]:
        later = self.later[0](lead)
        here = np.flatnonzero(later >= 0)
        return here, later[here]

    def _truth(self, lead: int, inits: list[int]) -> Reals:
        return self.states[1][self.later[1](lead)[inits]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe, args.overrides)
    data = open_data(recipe)
    assert data.holdout is not None
    train, held_out = data.train.dataset, data.holdout.dataset
    assert isinstance(train, WeatherDataset)
    assert isinstance(held_out, WeatherDataset)
    evaluator = choose_evaluators(recipe, ["forecast"])["forecast"]
    assert isinstance(evaluator, ForecastEvaluator)
    todo = stages(held_out.leads, held_out.past, evaluator.num_steps, held_out.num_times)
    trial = Trial(held_out, todo, 1, None, lambda question: question.index)
    inits = trial.choose(evaluator.inits, evaluator.num_inits, print)
    linear, found = Linear(train, held_out), {}
    for lead, name in trial.lead_names.items():
        found[name] = {"inverse model": linear.inverse_model(lead, inits)}
        if linear.states[0][0].size < len(linear.states[0]):  # else it only learns by heart
            found[name]["ridge"] = linear.ridge(lead, inits)
    for name, row in found.items():
        for method, errors in row.items():
            print(f"{name:10s} {method:14s}", "  ".join(f"{error:.4g}" for error in errors))
    result = {"channels": held_out.info.channels, "inits": len(inits), "rmse": found}
    print(write_result(f"weather_baselines_{recipe.run_dir.name}", result))


if __name__ == "__main__":
    main()
