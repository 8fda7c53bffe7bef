"""Samples as density maps: one MRC file for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff_molecules.lattice import AXES
from rawdiff_molecules.maps import DensityMap, write_map


class MapWriter(Writer):
    """`000042.mrc`: the channels of a sample added up, which is the density of all its atoms."""

    def write(
        self,
        samples: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        labels: Sequence[int] | None = None,
        place: Array | None = None,
    ) -> list[Path]:
        """UserError unless samples lie along x, y and z."""
        if tuple(info.coordinates) != AXES:
            raise UserError(
                f"Maps are written of samples along x, y and z; these lie along "
                f"{', '.join(info.coordinates) or 'no axes'}. Choose another `sample.writer`."
            )
        xs, ys, zs = (info.coordinates[axis] for axis in AXES)
        spacing = (xs[1] - xs[0], ys[1] - ys[0], zs[1] - zs[0])
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{first_index + i:06d}.mrc" for i in range(len(samples))]
        for path, sample in zip(paths, samples, strict=True):
            write_map(path, DensityMap(sample.sum(0), spacing, (xs[0], ys[0], zs[0])))
        return paths
