"""What makes two recipes the same run: which keys may differ when it goes on, and which differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rawdiff.errors import UserError
from rawdiff.recipe import Recipe

# Keys that may differ when a run goes on: they change how it is watched or spread, not its result.
FREE_KEYS = (
    "run_dir",
    "train.num_steps",
    "train.micro_batch_size",
    "train.num_workers",
    "train.device",
    "train.init_from",
    "train.stop_after_hours",
    "parallel",
    "train.log_every",
    "train.picture_every",
    "train.tensorboard",
    "checkpoint",
    "guard",
    "sample",
    "evaluate",
)


def require_same_run(
    old: Recipe, new: Recipe, what: str, cure: str, free: Sequence[str] = FREE_KEYS
) -> None:
    """UserError that lists the keys that make a run of `what` another one, with the cure."""
    if changes := differences(old, new, free):
        lines = "\n".join(f"  - {change}" for change in changes)
        raise UserError(f"{what} another recipe:\n{lines}\n{cure}")


def differences(old: Recipe, new: Recipe, free_keys: Sequence[str] = FREE_KEYS) -> list[str]:
    """Keys whose change would make it another run, with both values."""
    free = set(free_keys)
    if old.train.schedule != "constant":
        free.discard("train.num_steps")  # the end of the run shapes its learning rate
    before, after = _flat(old.plain()), _flat(new.plain())

    def is_free(key: str) -> bool:
        return any(key == one or key.startswith(f"{one}.") for one in free)

    return [
        f"{key}: {before.get(key)!r} there, {after.get(key)!r} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not is_free(key)
    ]


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
