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
from rawdiff.plugins import PluginSchema, build_plugin, plugin_field, plugin_section
from rawdiff.precision import Device, Precision
from rawdiff.sample_settings import SampleSettings
from rawdiff.settings import Settings


class HoldoutSettings(Settings):
    """Real data that training never sees: the oracle of every score.

    One of both keys is given.
    """

    fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of the data that is held out, chosen at random by `seed`. [-]"""
    data: dict[str, Any] | None = None
    """Keys of the recipe's `data:` that differ for the held-out set, such as its path."""

    @model_validator(mode="after")
    def _one_of_both(self) -> HoldoutSettings:
        if (self.fraction is None) == (self.data is None):
            raise ValueError("give either `fraction` or `data`")
        return self


MAX_WIDTH = 0.28  # of a power average: 1 / sqrt(12) is that of equal weights


class EMASettings(Settings):
    """A moving average of the weights. One of both keys is given.

    (power averages: Karras et al. 2024, arXiv 2312.02696, eq. 2 and 118)
    """

    decay: float | None = Field(default=None, gt=0, lt=1)
    """What an average of constant decay keeps of itself at each step, such as 0.9999. [-]"""
    power: float | None = Field(default=None, gt=0, lt=MAX_WIDTH)
    """Width of a power average, relative to the run so far: 0.05 to 0.2 serve. It needs no guess of
    the run's length. [-]"""

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
    """How long, in which steps and with which optimizer."""

    num_steps: int = Field(ge=1)
    """Length of the run. A step updates the weights once. [steps]"""
    batch_size: int = Field(ge=1)
    """Samples of a step, over all processes. [samples]"""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Samples that are on a device at a time; the loss does not depend on it. Default: all that the
    step has for that device. [samples]"""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` moves the matrices between hidden layers along orthogonalized momentum, and all else
    by AdamW, with the same learning rate and weight decay. (Liu et al. 2025, arXiv 2502.16982)"""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Largest learning rate, after the warmup. [-]"""
    warmup_samples: int = Field(default=0, ge=0)
    """Samples over which the learning rate rises from 0. [samples]"""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes from the warmup to the end of the run: not at all, or along a
    cosine or a line down to `final_learning_rate`."""
    final_learning_rate: float = Field(default=0.0, ge=0)
    """Learning rate at the end of a `cosine` or `linear` schedule. [-]"""
    betas: tuple[float, float] = (0.9, 0.95)
    """What AdamW keeps of its means of gradients and of their squares at each step. [-]"""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay: a step takes learning rate times this off the weights. [-]"""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Longest gradient that is used as it is; longer ones are shortened to it (`null`: none).
    [-]"""
    class_loss_weight: float = Field(default=100.0, ge=0)
    """Factor of the cross entropy of a class head (`model.class_head`), beside the sum of a
    sample's squared errors. [-]"""
    ema: tuple[EMASettings, ...] = (EMASettings(power=0.1),)
    """Averages of the weights that are kept. Samples are drawn with the first one by default."""
    precision: Precision = "auto"
    """Numbers in which the network multiplies; weights stay float32. `auto`: bfloat16 on a GPU,
    float32 on a CPU."""
    device: Device = "auto"
    """Where training runs. `auto`: a GPU if there is one."""
    num_workers: int = Field(default=0, ge=0)
    """Processes that read data beside each process of the run; 0: it reads itself. [processes]"""
    init_from: Path | None = None
    """Run or export whose weights a new run starts from."""
    stop_after_hours: float | None = Field(default=None, gt=0)
    """Time after which each call of the command stops with a checkpoint, to be continued.
    [hours]"""
    log_every: int = Field(default=50, ge=1)
    """Steps between two lines of the log. [steps]"""
    picture_every: int | None = Field(default=None, ge=1)
    """Steps between two pictures of samples (`null`: none). [steps]"""
    tensorboard: bool = True
    """Whether the log is written for TensorBoard, too."""

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
    """When a checkpoint is written and by whom, how many are kept; there is one at the end, too."""

    every_steps: Annotated[int, Field(ge=1)] | Literal["auto"] = 1000
    """Steps between two checkpoints. `auto` weighs the time that a save costs against the time that
    a failure would. (Young and Daly: the root of twice the stall times
    `mean_hours_between_failures`) [steps]"""
    mean_hours_between_failures: float = Field(default=24.0, gt=0)
    """How often the machines fail, for `every_steps: auto`. [hours]"""
    mode: Literal["auto", "process", "thread", "sync"] = "auto"
    """Who writes while training goes on: a `process` beside each one, a `thread`, or nobody
    (`sync`: training waits). `auto` is `process` for several GPUs, else `thread`. All but `sync`
    hold a second copy of the state in the memory of the CPU."""
    keep_last: int = Field(default=2, ge=1)
    """How many of the newest are kept. [checkpoints]"""
    keep_every_steps: int | None = Field(default=None, ge=1)
    """At multiples of so many steps one is written and kept for good (`null`: none). [steps]"""
    ema_every_steps: int | None = Field(default=None, ge=1)
    """Steps between two snapshots of all `power` averages; there is one at the end, too. From them
    an average of any other width can be had later (`sample.weights: power_0.13`). A 20th of the
    steps is often enough; it takes 4 bytes on the disk for each parameter, width and snapshot
    (`null`: none). [steps]"""


class GuardSettings(Settings):
    """Which steps are not taken, and what happens when that goes on.

    A step is skipped, and leaves weights and averages as they are, if the loss or the norm of its
    gradient is not finite, or if the norm is a spike.
    """

    spike: float | None = Field(default=8.0, gt=0)
    """How far the logarithm of the gradient's norm may lie above its median of the last 128 steps
    and of the last 16, with the spread taken robustly (`null`: no finite norm is too large).
    [standard deviations]"""
    max_skipped: int = Field(default=20, ge=1)
    """Skipped steps in a row after which the run goes back to the last checkpoint that
    `checkpoint.keep_every_steps` keeps, or else to the oldest one, and on with samples that it has
    not used yet. [steps]"""
    max_rollbacks: int = Field(default=2, ge=0)
    """How often it goes back before it stops with a diagnosis. [times]"""


Size = Annotated[int, Field(ge=1)]


class EvaluateSettings(Settings):
    """How many samples are scored against how many training samples, by which evaluators."""

    num_samples: int = Field(default=1000, ge=2)
    """Samples that are drawn and scored; as many held-out ones are the oracle, where there are so
    many. [samples]"""
    num_reference: int = Field(default=5000, ge=2)
    """Training samples that they are compared with, spread evenly. [samples]"""
    evaluators: (
        Annotated[dict[str, dict[str, Any]], PluginSchema("evaluators", by_name=True)] | None
    ) = Field(default=None, min_length=1)
    """Names of evaluators and their keys (default: all that run by default)."""
    size: Size | tuple[Size, ...] | None = None
    """Size to which generated and real samples alike are resampled before they are scored: one
    number, or one for each dim after the channels (default: as they are). [grid points]"""

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
    """Folder of the run (default: `runs/` and the name of the recipe)."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of all randomness of training: first weights, order, noise, times, dropped labels. [-]"""
    data: Annotated[Dataset, *plugin_field("datasets")]
    """Where samples come from."""
    holdout: HoldoutSettings | None = None
    """Real samples that training never sees, for the scores (default: none)."""
    adapter: Annotated[Adapter, *plugin_field("adapters")]
    """How a sample is cut into patches, and where each lies."""
    standardization: StandardizationSettings = StandardizationSettings()
    """How raw values are brought to about mean 0 and spread 1."""
    model: Annotated[NetworkSettings, *plugin_field("networks")] = Field(
        default_factory=lambda: build_plugin("networks", {})
    )
    """The network."""
    flow: FlowSettings = FlowSettings()
    """What the network learns: prediction, loss, times, noise."""
    train: TrainSettings
    """How long, in which steps and with which optimizer."""
    parallel: ParallelSettings = ParallelSettings()
    """How several processes share a run."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """When the state is saved, and how much of it is kept."""
    guard: GuardSettings = GuardSettings()
    """Which steps are not taken, and when the run goes back."""
    sample: SampleSettings = SampleSettings()
    """How samples are drawn."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """How samples are scored."""

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
