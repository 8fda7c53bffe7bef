"""Heat that spreads: `python -m rawdiff_spacetime.generate FILE.npy` writes one array."""

import sys
from pathlib import Path

import numpy as np

NUM_SAMPLES, NUM_TIMES, SIZE, DIFFUSION = 256, 4, 8, 0.01


def heat(seed: int) -> np.ndarray:
    """Warm spots, and what the heat equation makes of them in a periodic box. [time, x, y, z]

    Each wave decays by itself: u_k(t) = u_k(0) exp(-D k² t).
    """
    random = np.random.default_rng(seed)
    start = 300 + 10 * random.normal(size=(SIZE,) * 3)
    k = 2 * np.pi * np.fft.fftfreq(SIZE, 1 / SIZE)
    k_squared = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2
    waves = np.fft.fftn(start)
    times = 0.1 * np.arange(1, NUM_TIMES + 1)
    return np.stack([np.fft.ifftn(waves * np.exp(-DIFFUSION * k_squared * t)).real for t in times])


def main(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([heat(seed) for seed in range(NUM_SAMPLES)])[:, None].astype("float32"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
