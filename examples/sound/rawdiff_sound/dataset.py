"""Windows of the mono WAV files in a folder, 16 bits a value."""

import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import Field

from rawdiff import UserError
from rawdiff.data.dataset import DataInfo, Dataset, Sample

LOUDEST = 2**15


class Recordings(Dataset):
    """Each file brings as many windows of `num_values` as fit in it, one after another."""

    path: Path
    num_values: int = Field(default=1024, ge=1)

    @property
    def info(self):
        """UserError if there are no files, or if they do not agree in their rate."""
        _, rate = _windows(self.path, self.num_values)
        time = tuple(i / rate for i in range(self.num_values))
        return DataInfo(
            shape=(1, self.num_values),
            channels=("pressure",),
            units=("1",),  # of the loudest
            coordinates={"time": time},
            value_range=(-1.0, 1.0),
            writer="sound",
        )

    def __len__(self):
        return len(_windows(self.path, self.num_values)[0])

    def __getitem__(self, index):
        windows, _ = _windows(self.path, self.num_values)
        path, start = windows[index]
        with wave.open(str(path)) as file:
            file.setpos(start)
            values = np.frombuffer(file.readframes(self.num_values), dtype="<i2")
        return Sample(x=(values / LOUDEST).astype(np.float32)[None])


@lru_cache(maxsize=8)
def _windows(folder: Path, num_values: int) -> tuple[list[tuple[Path, int]], int]:
    """Where each sample lies, as a file and its first value; values a second."""
    windows, rates = [], set()
    for path in sorted(folder.glob("*.wav")):
        with wave.open(str(path)) as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise UserError(
                    f"{path} has {file.getnchannels()} channels of {8 * file.getsampwidth()} bits; "
                    "this dataset reads one of 16. Convert it, such as by `sox IN -b 16 -c 1 OUT`."
                )
            rates.add(file.getframerate())
            starts = range(0, file.getnframes() - num_values + 1, num_values)
            windows += [(path, start) for start in starts]
    if not windows:
        raise UserError(f"No WAV file of at least {num_values} values lies in {folder}.")
    if len(rates) > 1:
        raise UserError(f"Files in {folder} differ in their rate: {sorted(rates)}. Resample them.")
    return windows, rates.pop()
