"""The guard: a step that would do harm is not taken. Decided on the device; nobody waits for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rawdiff.recipe import GuardSettings

WINDOW = 128  # gradient norms that are remembered
RECENT = 16  # of them: what stays high for more than half of these is a level, and no spike
ARMED = 32  # so many must be known before any is called a spike
LEAST_DEVIATION = 0.1  # of the logarithm: very even norms must not make every step a spike
MAD_TO_STD = 1.4826  # of a normal distribution


def spike_limit(log_norms: Tensor, spike: float) -> Tensor:
    """The largest logarithm that is no spike beside these [n]; NaN among them stands for none.

    median + spike * 1.4826 * MAD; of an even number the median is the lower middle one.
    """
    median = log_norms.nanmedian()
    deviation = (log_norms - median).abs().nanmedian()
    return median + spike * MAD_TO_STD * deviation.clamp(min=LEAST_DEVIATION)


class Guard:
    """Judges each step by its loss and gradient norm, and counts those that are not taken.

    Both numbers are sums over all processes, so all judge alike. All memory is on the device, and
    in the checkpoint: a run that was stopped judges as it would have.
    """

    def __init__(self, settings: GuardSettings, device: torch.device) -> None:
        self.settings = settings
        self.log_norms = torch.zeros(WINDOW, dtype=torch.float64, device=device)
        self.num_norms = torch.zeros((), dtype=torch.int64, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self.in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self._places = torch.arange(WINDOW, device=device)

    def judge(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """Whether to take a step with this loss and gradient norm [] (bool []); counts it."""
        taken = self.allows(loss, grad_norm)
        self._remember(grad_norm.double().log())
        self.skipped += ~taken
        self.in_a_row.add_(1).mul_(taken.logical_not())
        return taken

    def allows(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """As `judge`, and nothing is remembered."""
        finite = loss.isfinite() & grad_norm.isfinite()
        if self.settings.spike is None:
            return finite
        no_spike = grad_norm.double().log() <= self._limit(self.settings.spike)
        return finite & (no_spike | (self.num_norms < ARMED))

    def _limit(self, spike: float) -> Tensor:
        """A spike stands out from all norms that are remembered, and from the last few."""
        return torch.maximum(
            spike_limit(self._last(WINDOW), spike), spike_limit(self._last(RECENT), spike)
        )

    def _last(self, num: int) -> Tensor:
        """The last `num` logarithms, in no order; NaN for all others, and for those to come."""
        age = (self.num_norms - 1 - self._places) % WINDOW
        return self.log_norms.masked_fill(age >= self.num_norms.clamp(max=num), math.nan)

    def _remember(self, log_norm: Tensor) -> None:
        """Finite norms, also of steps that are not taken: a run with high ones is not starved."""
        finite = log_norm.isfinite()
        here = finite & (self._places == self.num_norms % WINDOW)
        torch.where(here, log_norm, self.log_norms, out=self.log_norms)
        self.num_norms += finite

    def usual_norm(self) -> float:
        """The median gradient norm of the last steps, NaN without any. Waits for the device."""
        return float(self._last(WINDOW).nanmedian().exp())

    def is_stuck(self) -> bool:
        """Whether too many steps in a row were skipped. Waits for the device."""
        return int(self.in_a_row) >= self.settings.max_skipped

    def state_dict(self) -> dict[str, Tensor]:
        """Loading a checkpoint writes into these tensors."""
        names = ("log_norms", "num_norms", "skipped", "in_a_row")
        return {name: getattr(self, name) for name in names}
