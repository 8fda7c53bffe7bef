"""The recipe: everything that a run is a function of, validated before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rawdiff.adapter import Adapter
from rawdiff.data.dataset import Dataset
from rawdiff.data.statistics import StandardizationSettings
from rawdiff.explain import WrongKeysError
from rawdiff.flow.settings import FlowSettings
from rawdiff.model.network import NetworkSettings
from rawdiff.parallel.settings import ParallelSettings
from rawdiff.plugins import build_plugin, plugin_field, plugin_section
from rawdiff.precision import Device, Precision
from rawdiff.sample_settings import SampleSettings
from rawdiff.settings import Settings


class HoldoutSettings(Settings):
    """Real data that training never sees: the oracle of every score.

    Either a random `fraction` of the data, or another set: `data` holds the keys of the recipe's
    `data:` that differ, such as its path.
    """

    fraction: float | None = Field(default=None, gt=0, lt=1)
    data: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> HoldoutSettings:
        if (self.fraction is None) == (self.data is None):
            raise ValueError("give either `fraction` or `data`")
        return self


MAX_WIDTH = 0.28  # of a power average: 1 / sqrt(12) is that of equal weights


class EMASettings(Settings):
    """A moving average of the weights: constant `decay` a step, or a `power` profile.

    `power` is the width of the profile relative to the run so far (0.05 to 0.2): it needs no
    guess of the run's length. (Karras et al. 2024, arXiv 2312.02696, eq. 2 and 118)
    """

    decay: float | None = Field(default=None, gt=0, lt=1)
    power: float | None = Field(default=None, gt=0, lt=MAX_WIDTH)

    @model_validator(mode="after")
    def _one_of_both(self) -> EMASettings:
        if (self.decay is None) == (self.power is None):
            raise ValueError("give either `decay` or `power`")
        return self

    @property
    def name(self) -> str:
        return f"decay_{self.decay}" if self.decay is not None else f"power_{self.power}"


def power_width(name: str) -> float | None:
    """The width in the name of a power average, such as `power_0.13`; None for another name.

    ValueError for a width that no power average has.
    """
    try:
        width = float(name.removeprefix("power_"))
    except ValueError:
        return None
    if not name.startswith("power_"):
        return None
    if not 0 < width < MAX_WIDTH:
        raise ValueError(f"the width of `{name}` must lie between 0 and {MAX_WIDTH}")
    return width


class TrainSettings(Settings):
    """How long, in which steps and with which optimizer.

    A step updates the weights once, with `batch_size` samples over all processes;
    `micro_batch_size` of them are on a device at a time. The learning rate rises over
    `warmup_samples`, then follows `schedule` down to `final_learning_rate` at the end of the run.
    `optimizer: muon` moves the matrices between hidden layers along orthogonalized momentum, and
    all else by AdamW, with the same learning rate and weight decay. (Liu et al. 2025, arXiv
    2502.16982) `betas` are AdamW's.
    `class_loss_weight` multiplies the cross entropy of a class head (`model.class_head`), beside
    the sum of a sample's squared errors.
    `init_from` starts from the weights of another run or export. `stop_after_hours` stops each call
    of the command with a checkpoint, to be continued.
    """

    num_steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    micro_batch_size: int | None = Field(default=None, ge=1)
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(default=2e-4, gt=0)
    warmup_samples: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    final_learning_rate: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    class_loss_weight: float = Field(default=100.0, ge=0)
    ema: tuple[EMASettings, ...] = (EMASettings(power=0.1),)
    precision: Precision = "auto"
    device: Device = "auto"
    num_workers: int = Field(default=0, ge=0)
    init_from: Path | None = None
    stop_after_hours: float | None = Field(default=None, gt=0)
    log_every: int = Field(default=50, ge=1)
    picture_every: int | None = Field(default=None, ge=1)
    tensorboard: bool = True

    @model_validator(mode="after")
    def _agree(self) -> TrainSettings:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        names = [ema.name for ema in self.ema]
        if len(set(names)) != len(names):
            raise ValueError(f"two EMAs are the same: {names}")
        return self


class CheckpointSettings(Settings):
    """A checkpoint every so many steps, and at the end; the newest `keep_last` are kept.

    `every_steps: auto` weighs the time that a save costs against the time that a failure would
    (Young and Daly: the root of twice the stall times `mean_hours_between_failures`). At multiples
    of `keep_every_steps` one is written and kept for good.
    `mode` says who writes while training goes on: a `process` beside each one, a `thread`, or
    nobody (`sync`: training waits). `auto` is `process` for several GPUs, else `thread`. All but
    `sync` hold a second copy of the state in the memory of the CPU.
    Every `ema_every_steps` and at the end, all `power` averages are kept as a snapshot: from them
    an average of any other width can be had later (`sample.weights: power_0.13`). A 20th of the
    steps is often enough; it takes 4 bytes on the disk for each parameter, width and snapshot.
    """

    every_steps: Annotated[int, Field(ge=1)] | Literal["auto"] = 1000
    mean_hours_between_failures: float = Field(default=24.0, gt=0)
    mode: Literal["auto", "process", "thread", "sync"] = "auto"
    keep_last: int = Field(default=2, ge=1)
    keep_every_steps: int | None = Field(default=None, ge=1)
    ema_every_steps: int | None = Field(default=None, ge=1)


class GuardSettings(Settings):
    """Which steps are not taken, and what happens when that goes on.

    A step is skipped, and leaves weights and averages as they are, if the loss or the norm of its
    gradient is not finite, or if the norm is a spike: its logarithm lies more than `spike` standard
    deviations, taken robustly, above the median of the last 128 steps and of the last 16 (`null`:
    no finite norm is too large). After `max_skipped` in a row the run goes back to the last
    checkpoint that `checkpoint.keep_every_steps` keeps, or else to the oldest one, and on with
    samples that it has not used yet; `max_rollbacks` times at most, then it stops with a diagnosis.
    """

    spike: float | None = Field(default=8.0, gt=0)
    max_skipped: int = Field(default=20, ge=1)
    max_rollbacks: int = Field(default=2, ge=0)


Size = Annotated[int, Field(ge=1)]


class EvaluateSettings(Settings):
    """How many samples are scored against how many training samples, by which evaluators.

    `evaluators` maps their names to their keys (default: all that run by default). `size`, one
    number or one for each dim after the channels, resamples generated and real samples alike
    before they are scored.
    """

    num_samples: int = Field(default=1000, ge=2)
    num_reference: int = Field(default=5000, ge=2)
    evaluators: dict[str, dict[str, Any]] | None = Field(default=None, min_length=1)
    size: Size | tuple[Size, ...] | None = None

    @field_validator("evaluators")
    @classmethod
    def _they_exist(cls, found: dict[str, dict[str, Any]] | None) -> Any:
        for name, keys in (found or {}).items():
            try:
                build_plugin("evaluators", keys | {"name": name})
            except WrongKeysError as error:
                raise WrongKeysError(error.error, error.plugin, (name,)) from error
        return found


class Recipe(Settings):
    """A whole run. `rawdiff train` writes the resolved recipe, defaults included, into the run."""

    run_dir: Path
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: Annotated[Dataset, *plugin_field("datasets")]
    holdout: HoldoutSettings | None = None
    adapter: Annotated[Adapter, *plugin_field("adapters")]
    standardization: StandardizationSettings = StandardizationSettings()
    model: Annotated[NetworkSettings, *plugin_field("networks")] = Field(
        default_factory=lambda: build_plugin("networks", {})
    )
    flow: FlowSettings = FlowSettings()
    train: TrainSettings
    parallel: ParallelSettings = ParallelSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    guard: GuardSettings = GuardSettings()
    sample: SampleSettings = SampleSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        keeps_snapshots = self.checkpoint.ema_every_steps is not None
        if keeps_snapshots and all(ema.power is None for ema in self.train.ema):
            raise ValueError(
                "checkpoint.ema_every_steps keeps `power` averages, but train.ema has none: add "
                "{power: 0.05} and {power: 0.1}"
            )
        names = ["model", *(ema.name for ema in self.train.ema)]
        weights = self.sample.weights
        if weights is None or weights in names:
            return self
        if power_width(weights) is None:
            raise ValueError(f"sample.weights `{weights}` is none of the run's: {', '.join(names)}")
        if not keeps_snapshots:
            raise ValueError(
                f"sample.weights `{weights}` is none of the run's: {', '.join(names)}. A power "
                "average of any width can be had from a run with `checkpoint.ema_every_steps`"
            )
        return self

    def plain(self) -> dict[str, Any]:
        """As plain data for YAML and JSON."""
        return self.model_dump(mode="json")

    @property
    def holdout_data(self) -> Dataset | None:
        """The dataset held out, where it is a set of its own."""
        if self.holdout is None or self.holdout.data is None:
            return None
        holdout: Dataset = build_plugin(
            "datasets", plugin_section("datasets", self.data) | self.holdout.data
        )
        return holdout
