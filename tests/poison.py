"""Losses that go wrong at chosen places of a run, in this process or in one of several.

As a script: python poison.py RANK PLACE[,PLACE...] ARGUMENTS OF rawdiff
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rawdiff.cli.main import command
from rawdiff.train.objective import Objective

Seen = list[tuple[list[int], list[float]]]


def poisoned(factor: Callable[[Tensor], Tensor], seen: Seen) -> Callable[..., Any]:
    """Objective.errors with the loss of each sample times a factor of its place [B].

    Places and times of each micro-batch are noted in `seen`.
    """
    errors_of = Objective.errors

    def errors(self: Objective, network: Any, prepared: Any, noised: Any) -> Any:
        errors = errors_of(self, network, prepared, noised)
        factors = factor(prepared.index)
        seen.append((prepared.index.tolist(), errors.t.tolist()))
        total = errors.total * factors.mean()
        return dataclasses.replace(errors, total=total, per_sample=errors.per_sample * factors)

    return errors


def spoil(places: range | list[int], value: float = float("nan")) -> Callable[[Tensor], Tensor]:
    """A factor of `value` at these places, and 1 elsewhere."""
    bad = torch.tensor(list(places))
    return lambda index: torch.where(torch.isin(index, bad), value, 1.0)


if __name__ == "__main__":
    if os.environ["RANK"] == sys.argv[1]:
        places = [int(place) for place in sys.argv[2].split(",")]
        Objective.errors = poisoned(spoil(places), [])
    command(sys.argv[3:])
