"""Reading torch's distributed checkpoints without running code from them.

Their `.metadata` is a pickle. Here it may name only the plain classes that describe tensors, and
every entry must be a tensor: tensors are read with `weights_only=True`, other objects would not be.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from rawdiff.errors import UserError

ALLOWED = {
    ("collections", "OrderedDict"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.distributed.checkpoint.metadata", "ChunkStorageMetadata"),
    ("torch.distributed.checkpoint.metadata", "Metadata"),
    ("torch.distributed.checkpoint.metadata", "MetadataIndex"),
    ("torch.distributed.checkpoint.metadata", "StorageMeta"),
    ("torch.distributed.checkpoint.metadata", "TensorProperties"),
    ("torch.distributed.checkpoint.metadata", "TensorStorageMetadata"),
    ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
    ("torch.serialization", "_get_layout"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if (module, name) in ALLOWED or is_dtype:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class SafeReader(FileSystemReader):
    """Torch's reader, for checkpoints of tensors alone. UserError for anything else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.folder = path

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Raises UserError if the checkpoint is damaged, or holds more than tensors."""
        try:
            with (self.folder / ".metadata").open("rb") as file:
                metadata: Metadata = _Unpickler(file).load()
        except Exception as error:
            raise UserError(
                f"{self.folder} is no checkpoint that can be read safely: {error}. "
                "Nothing of it was run."
            ) from error
        for name, facts in metadata.state_dict_metadata.items():
            if not isinstance(facts, TensorStorageMetadata):
                raise UserError(
                    f"{self.folder} holds `{name}`, which is no tensor; it is not read."
                )
        return metadata

    def shapes(self) -> dict[str, TensorStorageMetadata]:
        """What is there, by name."""
        return dict(self.read_metadata().state_dict_metadata)  # type: ignore[arg-type]
