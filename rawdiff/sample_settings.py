"""How samples are drawn: the keys of `sample:` in a recipe."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field, field_validator, model_validator

from rawdiff.data.template import Template
from rawdiff.data.writer import Writer
from rawdiff.flow.solvers import SolverName
from rawdiff.flow.times import TimesName
from rawdiff.plugins import plugin_field
from rawdiff.settings import Settings
from rawdiff.steer.settings import ObserveSettings

SampleNumber: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]


class SampleSettings(Settings):
    """How samples are drawn. (arXiv 2511.13720: Heun, 50 steps, guidance inside [0.1, 1])

    `solver: ancestral` adds new noise in each step, `eta` times as much as keeps its spread (0:
    none): errors of early steps are mended, at the price of more steps. `solver: churn` adds a
    little before each of Heun's steps: `churn` is the S_churn of Karras et al. 2022, which acts
    within `churn_interval`. `times` says where the steps lie: evenly in t (`linear`), where the
    noise is `shift` times as strong (`shifted`), or evenly in log(sigma) or the 7th root of sigma
    (`logsnr`, `edm`) over `sigma_range`, with sigma the spread of noise on standardized data.
    `weights` names an EMA of the run (`decay_0.9999`), or `model`; default: its first EMA.
    `noise_scale` multiplies the noise that samples begin with, and all that is added later:
    above 1 they differ more, which mends ensembles of too little spread (Couairon et al. 2024: 1.05
    for weather).
    `cfg_parallel` multiplies the part of guidance that lies along the prediction of x: 0 keeps
    colours from saturating at large `cfg_scale`. (Sadat et al. 2024, arXiv 2410.02416)
    `guide` are weaker weights of the run (`power_0.2`, or `model@2000` of the checkpoint at step
    2000): samples move away from what they do worse, by `guide_scale` inside of `cfg_interval`.
    (Karras et al. 2024, arXiv 2406.02507)
    `compile` compiles the network when it is loaded, which pays for many samples.
    `t_eps` bounds the 1 - t that sampling divides by. `labels` are drawn in turn (default: all
    classes). `template` is the plug-in that says what samples are to be like (default: like real
    ones); with `start` above 0 they begin at that time from its values and noise, which leaves
    the more of them the nearer it is to 1. Samples `between` two others, named by number, begin
    with noise that goes evenly from that of the one to that of the other. `observe` says what was
    observed of the samples, which then agree with it. `writer` is the plug-in that writes files
    (default: the one of the data); `num_frames` of the way to each sample are written, too: what
    the network takes for the sample at evenly spaced times, and at last the sample.
    """

    seed: int = Field(default=0, ge=0, lt=2**63)

    solver: SolverName = "heun"
    eta: float = Field(default=1.0, ge=0)
    churn: float = Field(default=40.0, ge=0)
    churn_interval: tuple[float, float] = (0.02, 0.95)
    num_steps: int = Field(default=50, ge=1)
    times: TimesName = "linear"
    shift: float = Field(default=3.0, gt=0)
    sigma_range: tuple[float, float] = (0.002, 80.0)
    cfg_scale: float = Field(default=1.0, ge=0)
    cfg_interval: tuple[float, float] = (0.1, 1.0)
    cfg_parallel: float = Field(default=1.0, ge=0, le=1)
    guide: str | None = None
    guide_scale: float = Field(default=2.0, ge=0)
    noise_scale: float = Field(default=1.0, gt=0)
    t_eps: float = Field(default=1e-3, gt=0, lt=1)
    start: float = Field(default=0.0, ge=0, lt=1)
    weights: str | None = None
    compile: bool = False
    num_samples: int = Field(default=64, ge=1)
    batch_size: int = Field(default=64, ge=1)
    labels: tuple[int, ...] | None = Field(default=None, min_length=1)
    template: Annotated[Template | None, *plugin_field("templates")] = None
    between: tuple[SampleNumber, SampleNumber] | None = None
    observe: ObserveSettings | None = None
    num_frames: int = Field(default=0, ge=0)
    writer: Annotated[Writer | None, *plugin_field("writers")] = None

    @field_validator("labels", mode="before")
    @classmethod
    def _one_label(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _agree(self) -> SampleSettings:
        for key in ("cfg_interval", "churn_interval"):
            low, high = getattr(self, key)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{key} [{low}, {high}] must be ascending and within [0, 1]")
        if not 0 < self.sigma_range[0] < self.sigma_range[1]:
            raise ValueError(
                f"sigma_range {list(self.sigma_range)} must be two spreads of noise above 0, the "
                "smaller first"
            )
        if self.start and self.template is None:
            raise ValueError("`start` above 0 needs a `template`, whose values it begins from")
        if self.between is not None and self.solver in ("ancestral", "churn"):
            raise ValueError(
                f"`between` goes evenly from one sample to another, but `solver: {self.solver}` "
                "adds noise of its own to each; write `solver: heun`"
            )
        if self.observe is not None and self.template is not None:
            raise ValueError(
                "`observe` and `template` cannot be given at the same time: leave out one of them"
            )
        return self

    def like_real(self) -> SampleSettings:
        """For samples that are like real ones, whatever others are to follow or to agree with."""
        plain = {"template": None, "start": 0.0, "between": None, "observe": None}
        return self.model_copy(update=plain)
