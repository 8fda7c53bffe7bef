"""How fast images reach the loop: python benchmarks/feeding.py [--folder IMAGES]

Photographs that we make (smooth fields with detail as 1/f, JPEG of quality 92, of the sizes and
with the bits for a pixel that ImageNet has) or those of `--folder`, cropped to 256 x 256, in
batches of 64: by the published path (PIL decodes to RGB; guided-diffusion's crop; stacked), by us
with full and with reduced decoding, and from our packed shards in shuffled order. All take their
turns in one run on one core, with files in the memory of the system. Rates are images a second of
processor time, so that other programs count little. From them: how many cores keep one H200 from
waiting.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from measure import write_result
from PIL import Image
from rawdiff_images import pixels
from rawdiff_images.folder import ImageFolder

from rawdiff.data.dataset import Dataset
from rawdiff.data.loading import Subset, run_batches
from rawdiff.data.packed import pack

SIZES = ((375, 500), (333, 500), (500, 375), (500, 333), (375, 500), (300, 400), (500, 500))
LARGE = (768, 1024)  # one of 20, about as many as ImageNet has that must be halved
CROP, BATCH, NUM_PACKED = 256, 64, 2048
PEAK_FLOPS = 989e12  # dense bfloat16 of an H200
MODELS = {"B/16": (150e9, 0.45), "L/16": (525e9, 0.55), "H/16": (1088e9, 0.60)}
MAX_WAIT = 0.02  # share of a step
Read = Callable[[int], torch.Tensor]


def make_photographs(folder: Path, number: int) -> None:
    random = np.random.default_rng(0)
    folder.mkdir()
    for i in range(number):
        height, width = LARGE if i % 20 == 19 else SIZES[i % len(SIZES)]
        rows, columns = np.fft.fftfreq(height)[:, None, None], np.fft.rfftfreq(width)[:, None]
        amplitude = 1 / (0.004 + np.hypot(rows, columns)) ** 1.35
        noise = np.fft.rfft2(random.normal(size=(height, width, 3)), axes=(0, 1))
        field = np.fft.irfft2(noise * amplitude, s=(height, width), axes=(0, 1))
        colours = field @ np.array([[1, 1, 1], [0.2, 0, -0.2], [0.1, -0.1, 0.1]])
        values = 120 + 50 * colours / colours.std() + random.normal(0, 2, (height, width, 3))
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{i:05}.jpg", quality=92)


def published_crop(path: Path) -> torch.Tensor:
    """[3, 256, 256] as the published code reads it, written from its description."""
    with path.open("rb") as file:
        image = Image.open(file).convert("RGB")
    while min(image.size) >= 2 * CROP:
        half = (image.width // 2, image.height // 2)
        image = image.resize(half, resample=Image.Resampling.BOX)
    scale = CROP / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    values = np.array(image.resize(size, resample=Image.Resampling.BICUBIC))
    top, left = (values.shape[0] - CROP) // 2, (values.shape[1] - CROP) // 2
    cropped = Image.fromarray(values[top : top + CROP, left : left + CROP])
    return torch.from_numpy(np.array(cropped)).permute(2, 0, 1).contiguous()


def by_published_path(paths: list[Path]) -> Iterator[torch.Tensor]:
    while True:
        for start in range(0, len(paths) - BATCH + 1, BATCH):
            yield torch.stack([published_crop(path) for path in paths[start : start + BATCH]])


def by_us(dataset: Dataset) -> Iterator[torch.Tensor]:
    subset = Subset(dataset, range(len(dataset)))
    for batch in run_batches(subset, seed=0, batch_size=BATCH, start=0, num_workers=0):
        yield batch.x


def num_pixels(path: Path) -> int:
    with Image.open(path) as image:
        return image.width * image.height


def is_turned(path: Path) -> bool:
    with Image.open(path) as image:
        return image.getexif().get(pixels.ORIENTATION, 1) != 1


def differences(images: dict[str, ImageFolder], paths: list[Path]) -> dict[str, Any]:
    """Grey levels between our images and the published ones, but for photographs taken turned.

    (The published path leaves those as they are stored.)
    """
    found, upright = {}, [i for i, path in enumerate(paths) if not is_turned(path)]
    for name, folder in images.items():
        levels = np.concatenate(
            [
                np.abs(folder[i].x.astype(np.int16) - published_crop(paths[i]).numpy()).ravel()
                for i in upright
            ]
        )
        counts = np.bincount(levels)
        found[name] = {
            "largest": len(counts) - 1,
            "mean": float(levels.mean()),
            "images": len(upright),
            "values": len(levels),
            "values_that_differ": int(counts[1:].sum()),
            "values_that_differ_by_more_than_1": int(counts[2:].sum()),
        }
    return found


def measure(batches: dict[str, Iterator[torch.Tensor]], number: int, rounds: int) -> dict[str, Any]:
    """Images a second of processor time: medians over rounds in which all take turns."""
    rates: dict[str, list[float]] = {name: [] for name in batches}
    for stream in batches.values():
        next(stream)  # opened, listed, mapped
    for _ in range(rounds):
        for name, stream in batches.items():
            count = math.ceil(number / BATCH) * (8 if name == "packed" else 1)
            start = time.process_time()
            for _ in range(count):
                next(stream)
            rates[name].append(count * BATCH / (time.process_time() - start))
    return {
        name: {"images_a_second": round(statistics.median(found)), "slowest": round(min(found))}
        for name, found in rates.items()
    }


def cores_needed(rate: float) -> dict[str, int]:
    """Cores that give images faster than one H200 takes them, so that waits stay rare.

    Work of a batch is split over workers that read ahead, so a step waits only for what they
    bring too slowly: `share` of it with a rate of (1 - share) of what the GPU takes.
    """
    return {
        model: math.ceil((1 - MAX_WAIT) * share * PEAK_FLOPS / flops / rate)
        for model, (flops, share) in MODELS.items()
    }


def open_streams(
    images: dict[str, ImageFolder], paths: list[Path], temporary: Path
) -> dict[str, Iterator[torch.Tensor]]:
    """Endless batches by each path; the packed copy is too large for the processor's cache."""
    many = temporary / "many"
    many.mkdir()
    for i in range(NUM_PACKED):
        (many / f"{i:05}.jpg").symlink_to(paths[i % len(paths)].resolve())
    copy = pack(ImageFolder(path=many, size=CROP, labels=False), temporary / "packed")
    return {
        "published": by_published_path(paths),
        **{name: by_us(own) for name, own in images.items()},
        "packed": by_us(copy),
    }


def summarize(rates: dict[str, Any], levels: dict[str, Any]) -> None:
    """Adds ratios and numbers of cores to the rates, and prints all."""
    baseline = rates["published"]["images_a_second"]
    for name, found in rates.items():
        found["times_as_fast_as_published"] = round(found["images_a_second"] / baseline, 2)
        found["cores_for_an_h200"] = cores_needed(found["images_a_second"])
        cores = ", ".join(f"{model} {n}" for model, n in found["cores_for_an_h200"].items())
        print(
            f"{name:16} {found['images_a_second']:7,} images a second of a core, "
            f"{found['times_as_fast_as_published']:7.2f} times; cores for an H200: {cores}"
        )
    for name, found in levels.items():
        print(
            f"{name:16} grey levels from published: at most {found['largest']}, "
            f"mean {found['mean']:.4f}, more than 1 in "
            f"{found['values_that_differ_by_more_than_1']:,} of {found['values']:,} values"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="photographs instead of those that we make")
    parser.add_argument("--images", type=int, default=192, help="made, and read in a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "photographs"
        if args.folder is None:
            make_photographs(folder, args.images)
        images = {
            f"decode: {decode}": ImageFolder(path=folder, size=CROP, labels=False, decode=decode)
            for decode in ("full", "reduced")
        }
        files = [path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")]
        paths = sorted(files, key=lambda path: os.fsencode(path.relative_to(folder)))
        assert all(len(own) == len(paths) for own in images.values())
        streams = open_streams(images, paths, Path(temporary))
        rates = measure(streams, args.images, args.rounds)
        levels = differences(images, paths)
        bits, points = 8 * sum(p.stat().st_size for p in paths), sum(map(num_pixels, paths))
    summarize(rates, levels)
    facts = {
        "pillow": PIL.__version__,
        "simplejpeg": pixels.simplejpeg is not None,
        "images": "made" if args.folder is None else args.folder.name,
        "number": len(paths),
        "bits_for_a_pixel": round(bits / points, 2),
        "rounds": args.rounds,
        "images_a_second_of_an_h200": {
            model: round(share * PEAK_FLOPS / flops) for model, (flops, share) in MODELS.items()
        },
    }
    name = "feeding" if args.folder is None else "feeding_photographs"
    print(write_result(name, facts | {"readers": rates, "grey_levels": levels}))


if __name__ == "__main__":
    main()
