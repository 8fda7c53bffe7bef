"""An evaluator of features for tests, and a scoring in a process of its own that can be killed."""

import os
import signal
import sys
from pathlib import Path

from rawdiff import results
from rawdiff.evaluate.evaluator import FeatureEvaluator
from rawdiff.plugins import load_plugin
from rawdiff.sampling import Sampler


class Means(FeatureEvaluator):
    """How far the mean over samples is away; lower is better."""

    power: float = 1.0

    def features(self, batch, basis):
        return {"values": batch.nan_to_num(0.0).flatten(1) ** self.power}

    def score(self, features, reference, basis):
        difference = features["values"].mean(0) - reference["values"].mean(0)
        return {"": float(difference.norm()), "first": float(features["values"][0, -1])}


def score_counted(run: Path, log: Path, kind: str, kill_at: int, *overrides: str) -> None:
    """Score a run; each draw's sample numbers are a line of the log. SIGKILL at one draw."""
    evaluators = {
        "features": {"means": Means(num_samples=18, num_reference=10, batch_size=4)},
        "samples": {name: load_plugin("evaluators", name)() for name in ("frechet", "wasserstein")},
    }
    if kind in evaluators:
        results.choose_evaluators = lambda recipe, metrics, info: evaluators[kind]
    draw, count = Sampler.draw, 0

    def counted(sampler, index, *rest):
        nonlocal count
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        with log.open("a") as file:
            file.write(f"{index.tolist()}\n")
        return draw(sampler, index, *rest)

    Sampler.draw = counted
    results.evaluate_run(run, ["sample.batch_size=4", *overrides])


def use(monkeypatch, **evaluators):
    """Score with these, whatever is asked for."""
    monkeypatch.setattr(results, "choose_evaluators", lambda recipe, metrics, info: evaluators)


if __name__ == "__main__":
    score_counted(
        Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), *sys.argv[5:]
    )
