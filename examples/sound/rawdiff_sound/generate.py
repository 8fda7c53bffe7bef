"""Plucked tones: `python -m rawdiff_sound.generate FOLDER` writes 64 WAV files of two seconds."""

import sys
import wave
from pathlib import Path

import numpy as np

RATE, SECONDS, NUM_FILES = 4000, 2, 64


def tones(seed: int) -> np.ndarray:
    """Eight tones, one after another: harmonics that decay, the high ones faster. [values]"""
    random = np.random.default_rng(seed)
    t = np.arange(RATE * SECONDS // 8) / RATE
    parts = []
    for frequency in 110 * 2 ** (random.integers(0, 24, 8) / 12):
        loudness, harmonics = random.uniform(0.2, 0.4), range(1, 5)
        wave_forms = [
            np.sin(2 * np.pi * k * frequency * t) * np.exp(-4 * k * t) / k for k in harmonics
        ]
        parts.append(loudness * np.sum(wave_forms, axis=0))
    return np.concatenate(parts)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(NUM_FILES):
        with wave.open(str(folder / f"{number:03d}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(
                (tones(number) * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2").tobytes()
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
