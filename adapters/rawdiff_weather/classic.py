"""How long a classic NetCDF file must be: its library reads zeros where one is cut off."""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

from rawdiff.errors import UserError

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}  # bytes by nc_type
UNKNOWN = 0xFFFF_FFFF  # the number of records while a file is streamed


def check_length(path: str) -> None:
    """UserError if a file of the formats CDF-1, CDF-2 or CDF-5 ends before its last value."""
    try:
        with Path(path).open("rb") as file:
            expected = _Header(file).length()
    except (struct.error, KeyError, IndexError) as error:
        raise UserError(f"{path} ends in its header: it is cut off. Fetch it again.") from error
    found = Path(path).stat().st_size
    if found < expected:
        raise UserError(
            f"{path} is cut off: it has {found} bytes, but its fields need {expected}. Fetch or "
            "write it again."
        )


class _Header:
    """Reads a header by the grammar of the NetCDF classic format specification."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        version = file.read(4)[3]
        self.count = ">Q" if version == 5 else ">I"
        self.offset = ">I" if version == 1 else ">Q"

    def length(self) -> int:
        num_records = self.number(self.count)
        sizes = [self.dim() for _ in range(self.elements())]
        self.attributes()
        fixed, records = [0], []
        for _ in range(self.elements()):
            self.name()
            dims = [sizes[self.number(self.count)] for _ in range(self.number(self.count))]
            self.attributes()
            item = SIZES[self.number(">I")]
            self.number(self.count)  # the padded size, which is wrong for large variables
            begin = self.number(self.offset)
            if dims and dims[0] == 0:
                records.append((begin, item * prod(dims[1:])))
            else:
                fixed.append(begin + item * prod(dims))
        if not records or num_records in (0, UNKNOWN):
            return max(fixed)
        padded = [-(-size // 4) * 4 for _, size in records]
        stride = sum(padded) if len(records) > 1 else records[0][1]
        return max(*fixed, *(begin + (num_records - 1) * stride + size for begin, size in records))

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.file.read(struct.calcsize(form)))[0])

    def elements(self) -> int:
        """Of the list that follows; its tag says what they are, which the grammar says too."""
        self.number(">I")
        return self.number(self.count)

    def name(self) -> None:
        self.skip(self.number(self.count))

    def dim(self) -> int:
        """Its size; 0 for that of records."""
        self.name()
        return self.number(self.count)

    def attributes(self) -> None:
        for _ in range(self.elements()):
            self.name()
            item = SIZES[self.number(">I")]
            self.skip(item * self.number(self.count))

    def skip(self, size: int) -> None:
        """Values are padded to whole words."""
        self.file.seek(-(-size // 4) * 4, 1)
