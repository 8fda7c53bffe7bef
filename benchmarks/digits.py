"""Are the demo's digits what they are meant to be? python benchmarks/digits.py [RUN]

A support vector machine learns the demo's training digits and reads 500 guided samples and, as the
oracle, the real digits held out.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from measure import write_result
from sklearn.svm import SVC

import rawdiff
from rawdiff.assemble import open_data
from rawdiff.data.dataset import collate
from rawdiff.data.loading import Subset

NUM_SAMPLES = 500


def arrays(subset: Subset) -> tuple[np.ndarray, np.ndarray]:
    batch = collate(subset.get_batch(range(len(subset))), range(len(subset)))
    assert batch.label is not None
    return batch.x.flatten(1).numpy(), batch.label.numpy()


def recognized(run: str, num_samples: int = NUM_SAMPLES) -> dict[str, float]:
    """Share of guided samples, and of real held-out digits, that are read as their label."""
    model = rawdiff.load(run)
    data = open_data(model.recipe)
    assert data.holdout is not None
    classifier = SVC(C=10, gamma="scale").fit(*arrays(data.train))
    labels = torch.arange(num_samples) % 10
    samples = model.sample(num_samples, label=labels, seed=1).flatten(1).numpy()
    held_out, held_out_labels = arrays(data.holdout)
    return {
        "generated": float((classifier.predict(samples) == labels.numpy()).mean()),
        "real held-out": float((classifier.predict(held_out) == held_out_labels).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="runs/demo")
    args = parser.parse_args()
    result = recognized(args.run)
    for name, share in result.items():
        print(f"{name:14s} {share:.1%} read as their label")
    print(write_result("digits", {"num_samples": NUM_SAMPLES, "recognized": result}))


if __name__ == "__main__":
    main()
