"""How fast each process is by itself, and which of them all the others wait for."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from rawdiff.model.network import Network
from rawdiff.parallel.processes import Processes

ENOUGH_CALLS = 50
TOO_SLOW = 0.10


class ForwardTimer:
    """Times of one unit's forward pass, from when its weights are gathered: no waiting is in it.

    On a GPU measured on the device, and read without stopping it.
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        units: Sequence[nn.Module] = network.units or (network,)
        unit = units[len(units) // 2]
        self._on_gpu = device.type == "cuda"
        self._calls: list[tuple[Any, Any]] = []
        self._begin: Any = None
        # Inside of the hooks of sharding, which were set before.
        unit.register_forward_pre_hook(self._begins)
        unit.register_forward_hook(self._ends, prepend=True)

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _begins(self, *_: Any) -> None:
        self._begin = self._now()

    def _ends(self, *_: Any) -> None:
        self._calls.append((self._begin, self._now()))

    def read(self) -> float | None:
        """The middle time of the calls since the last answer, in seconds; None: too few yet."""
        if len(self._calls) < ENOUGH_CALLS:
            return None
        calls, self._calls = self._calls, []
        if not self._on_gpu:
            return statistics.median(end - begin for begin, end in calls)
        calls[-1][1].synchronize()
        return statistics.median(begin.elapsed_time(end) for begin, end in calls) / 1000


class Pace:
    """What the log says of the pace of all processes, and its warning of a slow one."""

    def __init__(self, network: Network, processes: Processes, device: torch.device) -> None:
        self._processes = processes
        self._timer = ForwardTimer(network, device) if processes.count > 1 else None
        self._suspect: int | None = None
        self._named: set[int] = set()

    def read(self, data_share: float) -> tuple[dict[str, float], str | None]:
        """Metrics for a line of the log, the same for all, and a warning; called by all.

        `data_share` of the process that waits most for its data. `slowest_process`: how much longer
        it computes than the middle one, 0.2 for a fifth.
        """
        if self._timer is None:
            return {"data_share": data_share}, None
        mine = (data_share, self._timer.read(), platform.node())
        shares, times, hosts = zip(*self._processes.gather(mine), strict=True)
        metrics: dict[str, float] = {"data_share": max(shares)}
        known = [seconds for seconds in times if seconds is not None]
        if len(known) < len(times):
            return metrics, None
        slowest = max(range(len(times)), key=known.__getitem__)
        metrics["slowest_process"] = known[slowest] / statistics.median_low(known) - 1
        return metrics, self._warning(slowest, hosts[slowest], metrics["slowest_process"])

    def _warning(self, rank: int, host: str, excess: float) -> str | None:
        """Once for each process, and only where it was too slow twice in succession."""
        before, self._suspect = self._suspect, rank if excess > TOO_SLOW else None
        if self._suspect is None or before != rank or rank in self._named:
            return None
        self._named.add(rank)
        return (
            f"Process {rank} on {host} computes {100 * excess:.0f} % slower than the middle one, "
            "and all wait for it. Look at the clock, the temperature and other jobs there."
        )
