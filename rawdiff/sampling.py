"""From noise to samples in the data's own units, one by one the same whoever draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol, TypeAlias

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from rawdiff import philox
from rawdiff.conditions import Conditions
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.data.template import Template
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.flow.guidance import LabelVelocity, autoguided, guided
from rawdiff.flow.interpolate import slerp
from rawdiff.flow.precondition import precondition
from rawdiff.flow.prediction import v_from, x_from
from rawdiff.flow.settings import FlowSettings
from rawdiff.flow.solvers import SOLVERS, SolverName
from rawdiff.flow.solvers.ancestral import ancestral
from rawdiff.flow.solvers.churn import churn
from rawdiff.flow.solvers.velocity import Solver, Velocity
from rawdiff.flow.times import TimesName, edm, linear, logsnr, shifted
from rawdiff.given import Given
from rawdiff.plugins import plugin_field
from rawdiff.precision import Precision, autocast
from rawdiff.settings import Settings
from rawdiff.steer.evidence import Evidence
from rawdiff.steer.observe import observe
from rawdiff.steer.settings import ObserveSettings
from rawdiff.steer.steering import Steering

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


Watch: TypeAlias = Callable[[float, Callable[[], Tensor]], None]
"""watch(t, look): `look()` gives samples [B, C, …] in data units, as they seem at time t."""


class Frames:
    """Stages of a drawing at evenly spaced times from `start` on; the sample itself is the last."""

    def __init__(self, num_frames: int, start: float) -> None:
        self.times = torch.linspace(start, 1, num_frames)[:-1].tolist()
        self.seen: list[Tensor] = []

    def watch(self, t: float, look: Callable[[], Tensor]) -> None:
        while len(self.seen) < len(self.times) and t >= self.times[len(self.seen)]:
            self.seen.append(look())

    def with_sample(self, x: Tensor) -> Tensor:
        """All frames [number of them, B, C, …]."""
        late = [x] * (len(self.times) - len(self.seen))  # times after the network's last call
        return torch.stack([*self.seen, *late, x])


class NetworkCall(Protocol):
    """A network, with its own weights or an EMA's."""

    def __call__(
        self,
        z_t: Tensor,
        t: Tensor,
        label: Tensor | None,
        *,
        scalars: Tensor | None,
        extra: Tensor | None,
        present: Tensor | None,
        positions: Tensor | None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Sampler:
    """A network with all that is needed to draw samples from it."""

    network: NetworkCall
    patcher: Patcher
    flow: FlowSettings  # resolved
    info: DataInfo
    device: torch.device
    precision: Precision = "auto"
    guide: NetworkCall | None = None
    """A weaker one that guides by what it does worse."""

    @torch.no_grad()
    def predict(self, z_t: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """x_pred [B, C, …] for z_t [B, C, …] at t [B], both in standardized units.

        NaN in z_t marks values that are missing.
        """
        z, t = self.patcher.adapter.patchify(z_t.to(self.device).float()), t.to(self.device)
        known = None if self.patcher.all_known else ~z.isnan()
        if known is None and bool(z.isnan().any()):
            raise UserError(
                "z_t has missing values (NaN), but this model was trained on data without any."
            )
        z = z if known is None else z.nan_to_num(0.0)
        output = self._bind(self.network, conditions.to(self.device), known)
        found = output(z, t, conditions.label)
        return self.patcher.raw(x_from(found, self.flow.prediction, z, t, self.flow.t_eps))

    @torch.no_grad()
    def draw(
        self,
        index: Tensor,
        conditions: Conditions,
        settings: SampleSettings,
        watch: Watch | None = None,
    ) -> Tensor:
        """The samples numbered `index` [B] in data units: [B, C, …] float32 on the CPU.

        NaN where a sample has no value. The noise depends on the seed and each sample's number
        alone; values are clipped to those that the data can hold. Known values that are to be kept
        come out as they are; all others are drawn around them. `watch` is shown what the network
        takes for the samples on the way, whenever it is asked.
        """
        conditions = conditions.to(self.device)
        known = self.patcher.known(len(index), self.device, conditions.there)
        given = Given.of(conditions, self.patcher)
        steering = self._steering(conditions, known, settings)
        steered = self._guided(conditions, known, given, settings)
        if steering is not None:
            steered = steering.around(steered)

        def watched(z: Tensor, t: Tensor) -> Tensor:
            v = steered(z, t)
            if watch is not None:
                watch(float(t), lambda: self._finished(z + (1 - t) * v, known, given))
            return v

        index = index.to(self.device)
        first = self._first(index, known, given, settings)
        solver = self._solver(index, known, settings)
        times = self._times(settings)
        if steering is None:
            return self._finished(solver(watched, first, times), known, given)

        def noise(number: int) -> Tensor:
            return self._noise(philox.Stream.RESAMPLE_NOISE + number, index, known, settings)

        solver = steering.method.solver(solver, noise)
        return steering.finish(self._finished(solver(watched, first, times), known, given))

    def _guided(
        self,
        conditions: Conditions,
        known: Tensor | None,
        given: Given | None,
        settings: SampleSettings,
    ) -> Velocity:
        """v(z, t) with all guidance that the settings want, and what is given."""
        prediction, t_eps = self.flow.prediction, settings.t_eps

        def by(network: NetworkCall) -> LabelVelocity:
            output = self._bind(network, conditions, known)

            def velocity(z: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
                space, found = prediction, output(z, t, label)
                if given is not None:
                    space, found = "x", given.put_into(x_from(found, prediction, z, t, t_eps))
                v = v_from(found, space, z, t, t_eps)
                return self.patcher.project(v, _fit(known, v))

            return velocity

        interval, no_label = settings.cfg_interval, self.info.num_classes
        steered = guided(
            by(self.network),
            conditions.label,
            no_label,
            cfg_scale=settings.cfg_scale,
            cfg_interval=interval,
        )
        if self.guide is None:
            return steered
        weaker = guided(
            by(self.guide), conditions.label, no_label, cfg_scale=1.0, cfg_interval=interval
        )
        return autoguided(steered, weaker, scale=settings.guide_scale, interval=interval)

    def denoiser(
        self, conditions: Conditions, known: Tensor | None, t_eps: float
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """x(z, t) of patches [B, N, P] at one time t, that torch can derive; without guidance."""
        output = self._bind(self.network, conditions.to(self.device), known)

        def x(z: Tensor, t: Tensor) -> Tensor:
            t = t.to(z.device).expand(len(z))
            return x_from(output(z, t, conditions.label), self.flow.prediction, z, t, t_eps)

        return x

    def _times(self, settings: SampleSettings) -> Tensor:
        """Where the steps of a solver lie: [num_steps + 1]."""
        num_steps, start = settings.num_steps, settings.start
        if settings.times == "linear":
            return linear(num_steps, start)
        if settings.times == "shifted":
            return shifted(num_steps, start, settings.shift)
        by_sigma = edm if settings.times == "edm" else logsnr
        return by_sigma(num_steps, start, settings.sigma_range, self.flow.noise_std)

    def observing(
        self,
        settings: SampleSettings,
        conditions: Conditions,
        num_samples: int,
        values: Tensor | Array | None = None,
    ) -> tuple[SampleSettings, Conditions]:
        """With what was observed of `num_samples` samples, from its file or `values`, if anything.

        UserError where it does not fit the settings or the data.
        """
        if settings.observe is None:
            return settings, conditions
        found, observed = observe(
            settings.observe,
            num_samples,
            settings.batch_size,
            self.info,
            self.patcher.grid,
            values,
        )
        settings = settings.model_copy(update={"observe": found})
        return settings, replace(conditions, observed=observed)

    def _steering(
        self, conditions: Conditions, known: Tensor | None, settings: SampleSettings
    ) -> Steering | None:
        """What makes samples agree with an observation; None where nothing is observed."""
        if settings.observe is None:
            return None
        if conditions.observed is None:
            raise UserError(
                "`sample.observe` is set, but nothing is observed of these samples. Leave it out; "
                "only `rawdiff sample` without --init and `model.sample` take an observation."
            )
        if conditions.x is not None:
            raise UserError("Samples with known values of a template take no observation, too.")
        evidence = Evidence.of(
            conditions.observed,
            settings.observe.operator,
            settings.observe.noise_std,
            known,
            self.patcher,
            self.info,
        )
        return Steering(
            settings.observe.method,
            evidence,
            self.flow.noise_std,
            settings.t_eps,
            settings.num_steps,
        )

    def _solver(self, index: Tensor, known: Tensor | None, settings: SampleSettings) -> Solver:
        def noise(step: int) -> Tensor:
            return self._noise(philox.Stream.STEP_NOISE + step, index, known, settings)

        if settings.solver == "ancestral":
            return ancestral(settings.eta, noise)
        if settings.solver == "churn":
            return churn(settings.churn, settings.churn_interval, noise)
        return SOLVERS[settings.solver]

    def _noise(
        self, stream: int, index: Tensor, known: Tensor | None, settings: SampleSettings
    ) -> Tensor:
        """eps [B, N, P] of samples number `index`, in the subspace of the data."""
        shape = (len(index), self.patcher.grid.num_patches, self.patcher.patch_dim)
        noise = philox.normal(settings.seed, stream, index, shape[1] * shape[2]).view(shape)
        return settings.noise_scale * self.flow.noise_std * self.patcher.project(noise, known)

    def _finished(self, x: Tensor, known: Tensor | None, given: Given | None) -> Tensor:
        """Patches [B, N, P] as samples in data units, with what is kept."""
        x = self.patcher.raw(x if known is None else torch.where(known, x, torch.nan))
        x = self.patcher.destandardize(x if given is None else given.lay_upon(x))
        x = (x if given is None else torch.where(given.keep, given.values, x)).cpu()
        return x if self.info.value_range is None else x.clamp(*self.info.value_range)

    def _first(
        self, index: Tensor, known: Tensor | None, given: Given | None, settings: SampleSettings
    ) -> Tensor:
        """z [B, N, P] that sampling begins with: noise alone, or noise and what is given."""
        eps = self._first_noise(index, known, settings)
        if not settings.start:
            return eps
        if given is None:
            raise UserError(
                "`sample.start` above 0 begins with known values, but none are given. Choose a "
                "`sample.template` that knows some."
            )
        t = settings.start
        return t * given.patches(known) + (1 - t) * eps

    def _first_noise(self, index: Tensor, known: Tensor | None, settings: SampleSettings) -> Tensor:
        """eps [B, N, P] of samples number `index`, or between those of two others."""
        stream = philox.Stream.SAMPLE_NOISE
        if settings.between is None:
            return self._noise(stream, index, known, settings)
        one = None if known is None else known[:1]
        a, b = (self._noise(stream, index.new_tensor([i]), one, settings) for i in settings.between)
        return slerp(a, b, index / max(settings.num_samples - 1, 1))

    def require_alike(self, settings: SampleSettings) -> None:
        """UserError where samples `between` two others would differ in more than their noise."""
        if settings.between is None:
            return
        if self.info.num_classes and settings.template is None and len(settings.labels or ()) != 1:
            raise UserError(
                "Between two samples all have one label; give `sample.labels=N`, of "
                f"{self.info.num_classes} classes; their number means none."
            )
        if self.info.are_told and settings.template is None:
            raise UserError(
                "Between two samples all are told the same, but samples of this model are told of "
                "real ones, which differ. Give a `sample.template` that says the same of all."
            )

    def _bind(
        self, network: NetworkCall, conditions: Conditions, known: Tensor | None
    ) -> LabelVelocity:
        """A network's output as a function of z, t and label; z may hold the batch twice."""
        scalars = self.patcher.scalars(conditions.scalars)
        extra = self.patcher.extra(conditions.context, known)
        present = None if known is None else known.any(-1)
        positions = self.patcher.positions(conditions.place)

        def output(z: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            seen = _fit(known, z)
            with autocast(self.precision, self.device):
                raw = network(
                    z if seen is None else z * seen,
                    t,
                    None if label is None else label.to(self.device),
                    scalars=_fit(scalars, z),
                    extra=_fit(extra, z),
                    present=_fit(present, z),
                    positions=_fit(positions, z),
                )
            return precondition(raw, z, t, self.flow)

        return output


def _fit(tensor: Tensor | None, z: Tensor) -> Tensor | None:
    """As often as z holds the batch."""
    return None if tensor is None else torch.cat((tensor,) * (len(z) // len(tensor)))


def draw_all(
    sampler: Sampler,
    num_samples: int,
    conditions: Conditions,
    settings: SampleSettings,
    *,
    first_index: int = 0,
    keep_frames: Callable[[int, Tensor], None] | None = None,
) -> Iterator[Tensor]:
    """Samples number first_index … first_index + num_samples - 1, in batches [B, C, …].

    `keep_frames` gets the number of each batch's first sample and the frames [K, B, C, …] of the
    way to them, if the settings want some.
    """
    for start in range(0, num_samples, settings.batch_size):
        stop = min(start + settings.batch_size, num_samples)
        index = torch.arange(first_index + start, first_index + stop)
        if keep_frames is None or not settings.num_frames:
            yield sampler.draw(index, conditions[start:stop], settings)
            continue
        frames = Frames(settings.num_frames, settings.start)
        x = sampler.draw(index, conditions[start:stop], settings, frames.watch)
        keep_frames(first_index + start, frames.with_sample(x))
        yield x
