"""Sizes and switches of the Transformer, as a recipe writes them under `model:`."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import Field, model_validator

from rawdiff.model.network import NetworkSettings

Size: TypeAlias = Literal["B", "L", "H", "G"]

# Table 9 of arXiv 2511.13720.
SIZES: dict[str, dict[str, Any]] = {
    "B": {"depth": 12, "width": 768, "heads": 12, "bottleneck": 128, "in_context_start": 4},
    "L": {"depth": 24, "width": 1024, "heads": 16, "bottleneck": 128, "in_context_start": 8},
    "H": {
        "depth": 32,
        "width": 1280,
        "heads": 16,
        "bottleneck": 256,
        "in_context_start": 10,
        "dropout": 0.2,
    },
    "G": {
        "depth": 40,
        "width": 1664,
        "heads": 16,
        "bottleneck": 256,
        "in_context_start": 10,
        "dropout": 0.2,
    },
}


class Architecture(NetworkSettings):
    """What `TransformerSettings` hold."""

    size: Size | None = None
    """A published size: it fills in width, depth, heads, bottleneck, `in_context_start` and
    dropout."""
    width: int = Field(default=384, ge=8, le=100_000)
    """Numbers that carry a patch between blocks. [values]"""
    depth: int = Field(default=8, ge=1, le=1000)
    """Blocks of attention and MLP. [blocks]"""
    heads: int = Field(default=6, ge=1)
    """Heads of an attention, among which the width is divided. [heads]"""
    bottleneck: int | None = Field(default=128, ge=1)
    """Width between the two linear layers that embed a patch (`null`: one layer). [values]"""
    in_context_len: int = Field(default=32, ge=0)
    """Learned patches that carry the label, beside those of the sample (0: none). [patches]"""
    in_context_start: int = Field(default=2, ge=0)
    """Number of the block before which they are put in front, counted from 0. [block]"""
    class_head: int | None = Field(default=None, ge=1)
    """Number of the block before which a linear layer reads the label from the mean patch, for the
    auxiliary loss of the paper's Table 11; blocks before it are not told the label (`null`: none).
    [block]"""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of activations that training drops, in the middle half of the blocks. [-]"""
    swiglu_multiple: int = Field(default=64, ge=1)
    """The width of the MLP is rounded up to a multiple of it, which suits the hardware (1: exactly
    as published). [values]"""
    swiglu: bool = True
    """Gated MLP; without: GELU."""
    rmsnorm: bool = True
    """RMSNorm; without: LayerNorm."""
    qk_norm: bool = True
    """Normalizes queries and keys of each head."""
    rope: bool = True
    """Turns queries and keys by the positions of their patches."""
    position_table: bool = True
    """Adds sines and cosines of its position to each patch."""
    adaln: bool = True
    """Conditions scale, shift and gate each block; without: they are added to the patches."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_size(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("size"), str):
            return SIZES.get(values["size"], {}) | values
        return values

    @model_validator(mode="after")
    def _agree(self) -> Architecture:
        if self.width % self.heads:
            near = [h for h in range(1, self.width + 1) if self.width % h == 0]
            best = min(near, key=lambda h: abs(h - self.heads))
            raise ValueError(
                f"width {self.width} cannot be shared by {self.heads} heads; "
                f"write `heads: {best}` or another width"
            )
        if self.head_width % 2:
            raise ValueError(
                f"width / heads = {self.head_width} is odd, but values turn in pairs; "
                "choose heads so that it is even"
            )
        if self.in_context_len and self.in_context_start >= self.depth:
            raise ValueError(
                f"in_context_start {self.in_context_start} must lie before the last of {self.depth}"
                " blocks; lower it, or write `in_context_len: 0`"
            )
        self._check_class_head()
        return self

    def _check_class_head(self) -> None:
        head = self.class_head
        if head is None:
            return
        if head >= self.depth:
            raise ValueError(f"class_head {head} must lie before the last of {self.depth} blocks")
        if self.in_context_len and self.in_context_start < head:
            raise ValueError(
                f"the class is to be read before block {head}, but in-context patches tell it "
                f"from block {self.in_context_start} on; write `in_context_start: {head}` or later"
            )
        if not self.adaln:
            raise ValueError("without adaLN every block is told the label; write `adaln: true`")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        """int(2/3 * 4 * width) for SwiGLU, rounded up to the multiple; 4 * width for GELU."""
        width = int(2 / 3 * (4 * self.width)) if self.swiglu else 4 * self.width
        return -(-width // self.swiglu_multiple) * self.swiglu_multiple
