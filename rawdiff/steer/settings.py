"""What is observed of the samples that are drawn, under `sample.observe:`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from rawdiff.plugins import plugin_field
from rawdiff.settings import Settings
from rawdiff.steer.method import Method
from rawdiff.steer.mmps import MMPS
from rawdiff.steer.operator import Operator
from rawdiff.steer.operators import Function, Mask

Spread = Annotated[float, Field(gt=0)]


def _of_function(value: Any) -> Any:
    """A function in Python stands for the operator that calls it."""
    is_function = callable(value) and not isinstance(value, Operator | type)
    return Function(function=value) if is_function else value


class ObserveSettings(Settings):
    """Samples that agree with an observation y = A(x) + noise."""

    file: Path | None = None
    """y in data units, NaN where nothing was seen: one for all samples, or [n, …]; .npy, .npz,
    .zarr or .h5, or for stations .csv."""
    operator: Annotated[Operator, BeforeValidator(_of_function), *plugin_field("operators")] = (
        Mask()
    )
    """A: what is observed of a sample."""
    method: Annotated[Method, *plugin_field("methods")] = MMPS()
    """What finds samples that agree."""
    noise_std: Spread | tuple[Spread, ...] | None = None
    """Spread of the noise, one number or one for each channel (default: 1 % of each channel's
    spread). [data units]"""

    @model_validator(mode="after")
    def _agree(self) -> ObserveSettings:
        if not self.method.exact:
            return self
        if not self.operator.keeps_values:
            raise ValueError(
                "this method puts values into samples as they are, which only `operator: mask` "
                "gives; write `method: mmps` for other operators"
            )
        if self.noise_std is not None:
            raise ValueError(
                "this method takes values as they are, without noise; leave out `noise_std`, or "
                "write `method: mmps`, which weighs it"
            )
        return self
