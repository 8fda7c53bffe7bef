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

    sigma is the spread of noise on standardized data.
    """

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the noise: sample number i is the same for the same seed, whoever draws it. [-]"""

    solver: SolverName = "heun"
    """How noise becomes data. `ancestral` adds new noise in each step, which mends errors of early
    steps, at the price of more steps; `churn` adds a little before each of Heun's steps."""
    eta: float = Field(default=1.0, ge=0)
    """Of `solver: ancestral`: the new noise, relative to what keeps its spread (0: none). [-]"""
    churn: float = Field(default=40.0, ge=0)
    """Of `solver: churn`: S_churn of Karras et al. 2022. [-]"""
    churn_interval: tuple[float, float] = (0.02, 0.95)
    """First and last time at which `churn` acts. [t]"""
    num_steps: int = Field(default=50, ge=1)
    """Steps from noise to data. [steps]"""
    times: TimesName = "linear"
    """Where the steps lie: evenly in t (`linear`), where the noise is `shift` times as strong
    (`shifted`), or evenly in log(sigma) or the 7th root of sigma (`logsnr`, `edm`)."""
    shift: float = Field(default=3.0, gt=0)
    """Of `times: shifted`: the factor of the noise at each step. [-]"""
    sigma_range: tuple[float, float] = (0.002, 80.0)
    """Of `times: logsnr` and `edm`: the smallest and the largest sigma. [standard deviations]"""
    cfg_scale: float = Field(default=1.0, ge=0)
    """Classifier-free guidance: how far samples move away from those without a label; 1: none.
    [-]"""
    cfg_interval: tuple[float, float] = (0.1, 1.0)
    """First and last time at which guidance acts. [t]"""
    cfg_parallel: float = Field(default=1.0, ge=0, le=1)
    """Factor of the part of guidance that lies along the prediction of x: 0 keeps colours from
    saturating at large `cfg_scale`. (Sadat et al. 2024, arXiv 2410.02416) [-]"""
    guide: str | None = None
    """Weaker weights of the run (`power_0.2`, or `model@2000` of the checkpoint at step 2000), away
    from whose errors samples move. (Karras et al. 2024, arXiv 2406.02507)"""
    guide_scale: float = Field(default=2.0, ge=0)
    """How far samples move away from those of `guide`, inside of `cfg_interval`; 1: not at all.
    [-]"""
    noise_scale: float = Field(default=1.0, gt=0)
    """Factor of the noise that samples begin with, and of all that is added later: above 1 they
    differ more, which mends ensembles of too little spread. (Couairon et al. 2024: 1.05 for
    weather) [-]"""
    t_eps: float = Field(default=1e-3, gt=0, lt=1)
    """Smallest 1 - t that sampling divides by. [t]"""
    start: float = Field(default=0.0, ge=0, lt=1)
    """Time at which samples begin from the values of the `template` and noise; the nearer to 1, the
    more of them is left. [t]"""
    weights: str | None = None
    """An average of the run (`decay_0.9999`, `power_0.1`), or `model` (default: its first
    average)."""
    compile: bool = False
    """Compiles the network when it is loaded, which pays for many samples."""
    num_samples: int = Field(default=64, ge=1)
    """How many are drawn. [samples]"""
    batch_size: int = Field(default=64, ge=1)
    """How many are drawn at a time; they do not depend on it. [samples]"""
    labels: tuple[int, ...] | None = Field(default=None, min_length=1)
    """Classes that are drawn in turn, counted from 0 (default: all). [classes]"""
    template: Annotated[Template | None, *plugin_field("templates")] = None
    """What samples are to be like (default: like real ones)."""
    between: tuple[SampleNumber, SampleNumber] | None = None
    """Numbers of two samples of the seed: the noise goes evenly from that of the one to that of the
    other. [samples]"""
    observe: ObserveSettings | None = None
    """What was observed of the samples, which then agree with it."""
    num_frames: int = Field(default=0, ge=0)
    """Frames of the way to each sample that are written, too: what the network takes for the sample
    at evenly spaced times, and at last the sample. [frames]"""
    writer: Annotated[Writer | None, *plugin_field("writers")] = None
    """What writes the files (default: that of the data)."""

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
