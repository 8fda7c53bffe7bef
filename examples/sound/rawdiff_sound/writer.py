"""Samples as WAV files."""

import wave

import numpy as np

from rawdiff.data.writer import Writer
from rawdiff_sound.dataset import LOUDEST


class WavWriter(Writer):
    """One file for each sample, `00000000.wav` and so on."""

    def write(self, samples, folder, *, info, first_index=0, labels=None, place=None):
        time = info.coordinates["time"]
        rate = round((len(time) - 1) / (time[-1] - time[0]))
        paths = []
        for number, sample in enumerate(samples, start=first_index):
            paths.append(folder / f"{number:08d}.wav")
            values = np.clip(sample[0] * LOUDEST, -LOUDEST, LOUDEST - 1).round()
            with wave.open(str(paths[-1]), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(rate)
                file.writeframes(values.astype("<i2").tobytes())
        return paths
