"""Stored chunks of a zarr array, decoded straight to where they belong.

zarr's own pipeline decodes into memory of its own, copies that into the selection that was asked
for, and changes threads on the way. For large chunks that takes longer than decoding them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc, Zstd
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

ZSTD_BEGINS = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, eq=False)
class PlainArray:
    """One whose chunks are arrays in C order, compressed by Blosc, by Zstandard or not at all.

    `folder` is that of its chunks, if they lie on a local disk.
    """

    array: Any
    folder: Path | None
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: Blosc | Zstd | None

    @staticmethod
    def of(array: Any) -> PlainArray | None:
        """Of zarr's asynchronous array; None if only zarr itself can read that."""
        metadata, store = array.metadata, array.store_path.store
        dtype = metadata.dtype.to_native_dtype()
        if metadata.zarr_format == 2:
            codec = metadata.compressor
            plain = metadata.order == "C" and not metadata.filters
        else:
            serializer, *others = metadata.codecs
            plain = isinstance(serializer, BytesCodec) and len(others) <= 1
            plain = plain and (dtype.itemsize == 1 or serializer.endian.value == "little")
            codec = _numcodec(others[0]) if others else None
            plain = plain and bool(codec) == bool(others)
            dtype = dtype.newbyteorder("<")
        if not plain or not (codec is None or type(codec) in (Blosc, Zstd)):
            return None
        local = isinstance(store, LocalStore)
        folder = store.root / array.store_path.path if local else None
        return PlainArray(array, folder, tuple(array.chunks), dtype, codec)

    def key(self, selection: tuple[slice, ...]) -> str:
        """Name of the chunk in which a selection lies."""
        places = tuple(s.start // size for s, size in zip(selection, self.chunks, strict=True))
        return str(self.array.metadata.encode_chunk_key(places))

    def load(self, key: str) -> bytes | None:
        """A chunk as it is stored on the local disk; None if it was never written."""
        assert self.folder is not None
        try:
            with (self.folder / key).open("rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            return None

    async def fetch(self, key: str) -> bytes | None:
        """As `load`, from any store."""
        prefix = self.array.store_path.path
        path = f"{prefix}/{key}" if prefix else key
        found = await self.array.store_path.store.get(path, prototype=default_buffer_prototype())
        return None if found is None else found.to_bytes()

    def decode_into(self, stored: bytes | None, chunk: npt.NDArray[Any]) -> None:
        """Fill a contiguous array of the chunk's size. ValueError if another size is stored."""
        if stored is None:
            fill = self.array.metadata.fill_value
            chunk[...] = 0 if fill is None else fill
        elif self.codec is not None and _decoded_size(self.codec, stored) == chunk.nbytes:
            self.codec.decode(stored, out=chunk)
        else:
            decoded = stored if self.codec is None else self.codec.decode(stored)
            chunk[...] = np.frombuffer(decoded, self.dtype).reshape(chunk.shape)

    def decode(self, stored: bytes | None, selection: tuple[slice, ...]) -> npt.NDArray[Any]:
        """What a selection inside one chunk holds."""
        chunk = np.empty(self.chunks, self.dtype)
        self.decode_into(stored, chunk)
        inside = zip(selection, self.chunks, strict=True)
        return chunk[tuple(slice(s.start % size, s.start % size + s.stop - s.start)
                           for s, size in inside)]  # fmt: skip


def _numcodec(codec: Any) -> Blosc | Zstd | None:
    """What decodes for a codec of zarr 3."""
    if isinstance(codec, BloscCodec):
        return Blosc()
    return Zstd() if isinstance(codec, ZstdCodec) else None


def _decoded_size(codec: Blosc | Zstd, stored: bytes) -> int | None:
    """By the header; None if that does not say it."""
    if isinstance(codec, Blosc):
        return int.from_bytes(stored[4:8], "little") if len(stored) >= 16 else None
    if stored[:4] != ZSTD_BEGINS or len(stored) < 18:
        return None
    kind, single, has_dict = stored[4] >> 6, stored[4] >> 5 & 1, stored[4] & 3  # RFC 8878, 3.1.1.1
    length = (single, 2, 4, 8)[kind]
    if has_dict or not length:
        return None
    begin = 5 + (not single)
    return int.from_bytes(stored[begin : begin + length], "little") + 256 * (length == 2)
