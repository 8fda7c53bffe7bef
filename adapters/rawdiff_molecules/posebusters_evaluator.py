"""PoseBusters' checks of molecules as scores."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import Basis, FeatureEvaluator, Features, Goal, OwnReference
from rawdiff_molecules.bonds import find_bonds
from rawdiff_molecules.decode import decode
from rawdiff_molecules.impatient import Impatient
from rawdiff_molecules.lattice import Lattice
from rawdiff_molecules.posebusters_process import ENERGY_CHECK, MOLECULE_CHECKS, check_molecules


class PoseBustersEvaluator(FeatureEvaluator):
    """Share of samples that pass all checks of PoseBusters; higher is better.

    Each check has a score of its own: the share of connected molecules with bond orders that pass
    it. One that takes too long, or ends the process that looks at it, passes none; `unanswered` is
    the share of these. Nothing is compared with the training data.
    (Buttenschoen, Morris and Deane 2024, doi:10.1039/D3SC04185A)
    """

    by_default: ClassVar[bool] = False

    num_samples: int = Field(default=1000, ge=2)
    """Samples that are drawn, with labels in turn. [samples]"""
    energy: bool = False
    """Compares the energy with that of 50 conformers, too, which takes ten times as long."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Longest time for one molecule. [seconds]"""

    def goal(self, key: str) -> Goal:
        return "low" if key == "unanswered" else "high"

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return ("", *self._checks, "unanswered")

    def obstacle(self, basis: Basis) -> str | None:
        try:
            Lattice.of(basis.info)
        except UserError as error:
            return str(error)
        return None

    def origin(self) -> dict[str, Any]:
        return super().origin() | {"posebusters": version()}

    def own_reference(self, basis: Basis) -> OwnReference:
        return OwnReference()

    def features(
        self, batch: Tensor, basis: Basis, place: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`passed` [n, checks] and `state` [n]: 0 for no molecule, 1 unanswered, 2 answered."""
        version()
        passed = torch.zeros(len(batch), len(self._checks), dtype=torch.bool)
        state = torch.zeros(len(batch), dtype=torch.uint8)
        for i, decoded in enumerate(decode(batch, basis.info)):
            bonded = find_bonds(decoded.elements, decoded.positions)
            if bonded.molecule is None or not bonded.has_orders or bonded.num_fragments != 1:
                continue
            found = _process(self.energy).ask(bonded.molecule.ToBinary(), self.timeout_s)
            state[i] = 1 if found is None else 2
            if found is not None:
                passed[i] = torch.tensor([found[check] for check in self._checks])
        return {"passed": passed, "state": state}

    def score(self, features: Features, reference: Features, basis: Basis) -> dict[str, float]:
        passed, state = features["passed"], features["state"]
        scores = {"": float(passed.all(1).double().mean())}
        if bool((looked_at := state > 0).any()):
            each = passed[looked_at].double().mean(0).tolist()
            scores |= dict(zip(self._checks, each, strict=True))
            scores["unanswered"] = float((state[looked_at] == 1).double().mean())
        return scores

    @property
    def _checks(self) -> tuple[str, ...]:
        return (*MOLECULE_CHECKS, ENERGY_CHECK) if self.energy else MOLECULE_CHECKS


@cache
def version() -> str:
    """Of PoseBusters. UserError if it is not installed."""
    if importlib.util.find_spec("posebusters") is None:
        raise UserError(
            "`posebusters` needs the library PoseBusters. Run `pip install rawdiff[posebusters]`."
        )
    return importlib.metadata.version("posebusters")


@cache
def _process(energy: bool) -> Impatient:
    """Kept from one batch to the next: it takes seconds to start."""
    return Impatient(check_molecules, energy)
