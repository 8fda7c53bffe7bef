"""From noise to samples in the data's own units, one by one the same whoever draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from rawdiff import philox
from rawdiff.conditions import Conditions
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.errors import UserError
from rawdiff.flow.guidance import LabelVelocity, autoguided, guided
from rawdiff.flow.interpolate import slerp
from rawdiff.flow.precondition import precondition
from rawdiff.flow.prediction import v_from, x_from
from rawdiff.flow.projection import projected
from rawdiff.flow.settings import FlowSettings
from rawdiff.flow.solvers import SOLVERS
from rawdiff.flow.solvers.ancestral import ancestral
from rawdiff.flow.solvers.churn import churn
from rawdiff.flow.solvers.velocity import Solver, Velocity
from rawdiff.flow.times import edm, linear, logsnr, shifted
from rawdiff.frames import Frames, Look, Watch
from rawdiff.given import Given
from rawdiff.precision import Precision, autocast
from rawdiff.sample_settings import SampleSettings
from rawdiff.steer.evidence import Evidence
from rawdiff.steer.observe import observe
from rawdiff.steer.steering import Steering


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
        come out as they are; all others are drawn around them. `watch` is shown the samples on the
        way, whenever the network is asked.
        """
        conditions = conditions.to(self.device)
        known = self.patcher.known(len(index), self.device, conditions.there)
        given = Given.of(conditions, self.patcher)
        steering = self._steering(conditions, known, settings)
        velocity = self._guided(conditions, known, given, settings)

        def watched(velocity: Velocity) -> Velocity:
            if watch is None:
                return velocity

            def seen(z: Tensor, t: Tensor) -> Tensor:
                v = velocity(z, t)
                look = Look(
                    z_t=lambda: self._finished(z, known, None),
                    x_pred=lambda: self._finished(z + (1 - t) * v, known, given),
                )
                watch(float(t), look)
                return v

            return seen

        index = index.to(self.device)
        first = self._first(index, known, given, settings)
        solver = self._solver(index, known, settings)
        times = self._times(settings)
        if steering is None:
            return self._finished(solver(watched(velocity), first, times), known, given)

        def noise(number: int) -> Tensor:
            return self._noise(philox.Stream.RESAMPLE_NOISE + number, index, known, settings)

        x = steering.solve(
            steering.method.solver(solver, noise),
            velocity,
            first,
            times,
            noise=lambda num: philox.normal(settings.seed, philox.Stream.SEEN_NOISE, index, num),
            watched=watched,
        )
        return steering.finish(self._finished(x, known, given))

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

        def change(d: Tensor, x: Tensor) -> Tensor:
            return projected(d, x, known, parallel=settings.cfg_parallel)

        interval, no_label = settings.cfg_interval, self.info.num_classes
        steered = guided(
            by(self.network),
            conditions.label,
            no_label,
            cfg_scale=settings.cfg_scale,
            cfg_interval=interval,
            change=None if settings.cfg_parallel == 1 else change,
            t_eps=t_eps,
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
