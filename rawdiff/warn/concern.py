"""What a person is told of something that looks wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Concern:
    """`found` says what looks wrong, with its number; `cure` what to try."""

    name: str
    found: str
    cure: str

    def __str__(self) -> str:
        return f"Warning: {self.found} {self.cure}"
