"""Molecules of a given formula, for models that are told the numbers of atoms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
from pydantic import Field, field_validator

from rawdiff.data.dataset import DataInfo
from rawdiff.data.template import RealSamples, Template, Wanted
from rawdiff.errors import UserError
from rawdiff_molecules.elements import SYMBOLS
from rawdiff_molecules.molecules import COUNT

ITEM = re.compile(r"([A-Z][a-z]?)(\d*)")


class FormulaTemplate(Template):
    """Samples of given formulas."""

    formulas: tuple[str, ...] = Field(min_length=1)
    """Such as C7H10O2; they take turns."""

    @field_validator("formulas")
    @classmethod
    def _readable(cls, formulas: tuple[str, ...]) -> tuple[str, ...]:
        for formula in formulas:
            unknown = sorted(set(counts(formula)) - set(SYMBOLS[1:]))
            if not re.fullmatch(f"({ITEM.pattern})+", formula) or unknown:
                raise ValueError(
                    f"`{formula}` is no formula; write symbols and numbers, such as C7H10O2"
                )
        return formulas

    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        formula = self.formulas[index % len(self.formulas)]
        found = counts(formula)
        told = [name.removeprefix(COUNT) for name in info.scalar_names if name.startswith(COUNT)]
        if not told:
            raise UserError(
                "This model is not told of which atoms a molecule is made, so it cannot draw one "
                "of a formula. Train it with `data.composition: true`."
            )
        if others := sorted(set(found) - set(told)):
            raise UserError(
                f"{formula} has {', '.join(others)}, but the model was trained on "
                f"{', '.join(told)} alone."
            )
        return Wanted(scalars=np.array([found[symbol] for symbol in told], dtype=np.float32))


def counts(formula: str) -> Counter[str]:
    """How many atoms of each element a formula has."""
    found: Counter[str] = Counter()
    for symbol, number in ITEM.findall(formula):
        found[symbol] += int(number or 1)
    return found
