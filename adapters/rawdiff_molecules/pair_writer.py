"""Generated maps of residue pairs, and the chains that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rawdiff import picture
from rawdiff.data.arrays import ArrayWriter
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff_molecules.backbone_writer import REPORT, join_reports, write_backbones
from rawdiff_molecules.entry import BACKBONE
from rawdiff_molecules.geometry import CA
from rawdiff_molecules.pair_decode import Decoded, decode
from rawdiff_molecules.pair_geometry import LOG_DISTANCE, is_pair_map
from rawdiff_molecules.peptide import neighbours
from rawdiff_molecules.residues import Residues
from rawdiff_molecules.structure_pictures import draw_distances, draw_map, draw_tiles, draw_trace


class PairMapWriter(Writer):
    """The maps as `arrays` writes them, and of each the chain of its CA: `000042.cif`, `.pdb`.

    `report.json` says of each how well its distances can be those of points in space (`stress`,
    Angstrom), or why it has no coordinates.
    """

    num_drawn: ClassVar[int] = 20

    pdb: bool = True
    """Whether PDB files are written, too."""

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
        """Samples [n, 1 or 3, L, L]; UserError if they are no maps of pairs."""
        files = ArrayWriter().write(
            samples, folder, info=info, first_index=first_index, labels=labels
        )
        index = residue_index(samples, info, place)
        found = decode_samples(samples, info, index)
        backbones, residues = [], []
        for own, at in zip(found, index, strict=True):
            there = at.isfinite()
            backbones.append(ca_alone(own.ca[there]).numpy())
            residues.append(_numbered(at[there].numpy()))
        return files + write_backbones(
            backbones,
            residues,
            folder,
            first_index=first_index,
            pdb=self.pdb,
            facts=[_facts(own) for own in found],
        )

    @property
    def shared(self) -> tuple[str, ...]:
        return (REPORT,)

    def join(self, parts: Sequence[Path], folder: Path, *, info: DataInfo) -> None:
        join_reports(parts, folder)

    def draw(
        self,
        samples: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> Image.Image:
        """Of each map its distances and those of the chain found, and this chain from two sides."""
        index = residue_index(samples, info, None)
        tiles, titles = [], []
        maps = distances(samples, info).numpy()
        pairs = zip(maps, decode_samples(samples, info, index), index, strict=True)
        for i, (seen, own, at) in enumerate(pairs):
            there = at.isfinite().numpy()
            tiles.append(_Tile(seen[there][:, there], own.ca.numpy()[there]))
            titles.append(
                f"{i}: {there.sum()} residues, {own.failure or f'stress {own.stress:.2g}'}"
            )
        return draw_tiles(tiles, titles, _PANELS, columns=columns)

    def draw_noisy_stages(
        self, frames: Array, *, info: DataInfo, columns: int = 10
    ) -> list[Image.Image]:
        """The maps themselves: no chain has distances of noise."""
        like = frames[-1]
        return [picture.draw_samples(z, info, columns=columns, like=like) for z in frames]


class _Tile(NamedTuple):
    distances: Array
    ca: Array


_PANELS: tuple[Callable[[_Tile], Image.Image], ...] = (
    lambda tile: draw_distances(tile.distances),
    lambda tile: draw_map(ca_alone(torch.from_numpy(tile.ca)).numpy()),
    lambda tile: draw_trace(tile.ca, (0, 1)),
    lambda tile: draw_trace(tile.ca, (0, 2)),
)


def residue_index(samples: Array, info: DataInfo, place: Array | None) -> Tensor:
    """Where residues of maps stand along their chains, [n, L]; NaN where a map has none.

    Without a place each follows the one before. UserError if samples are no maps.
    """
    if samples.ndim != 4 or not is_pair_map(info.channels):
        raise UserError(
            "Maps of pairs are samples [C, L, L] of the dataset `pair_maps`, but these have the "
            f"shape {list(samples.shape[1:])}. Write `writer: {{name: arrays}}` under `sample:`."
        )
    there = torch.from_numpy(np.isfinite(samples[:, 0]).any(axis=-1))
    index = torch.arange(samples.shape[-1], dtype=torch.float32).expand(there.shape)
    if place is not None:
        index = torch.from_numpy(place[:, info.place_names.index("residue")]).nanmean(dim=-1)
    return torch.where(there, index, torch.nan)


def distances(samples: Array, info: DataInfo) -> Tensor:
    """Distances [n, L, L] of maps, in Angstrom, float64."""
    found = torch.from_numpy(np.asarray(samples[:, 0], dtype=np.float64))
    return found.expm1() if info.channels[0] == LOG_DISTANCE else found


def decode_samples(samples: Array, info: DataInfo, index: Tensor) -> list[Decoded]:
    """The chain of each map [n, C, L, L]; `index` [n, L] has gaps where residues are missing."""
    angles = torch.from_numpy(np.asarray(samples[:, 1:], dtype=np.float64))
    maps = torch.cat([distances(samples, info)[:, None], angles], dim=1)
    return decode(maps, neighbours(index), relative=info.channels[0] == LOG_DISTANCE)


def ca_alone(ca: Tensor) -> Tensor:
    """Backbones [..., L, 4, 3] of CA [..., L, 3]; NaN for the other atoms."""
    found = ca.new_full((*ca.shape[:-1], len(BACKBONE), 3), torch.nan)
    found[..., CA, :] = ca
    return found


def _numbered(index: Array) -> Residues:
    """Residues of a chain A, the first of them number 1; gaps stay."""
    whole = np.rint(index).astype(np.int64)
    whole -= whole[:1]
    names, codes, chains = (np.full(len(whole), text) for text in ("GLY", " ", "A"))
    return Residues(whole, whole + 1, codes, chains, names)


def _facts(decoded: Decoded) -> dict[str, Any]:
    if decoded.failure is not None:
        return {"failure": decoded.failure}
    votes = {"by shape": round(decoded.shape_vote, 1), "by omega": round(decoded.omega_vote, 1)}
    return {"stress": round(decoded.stress, 4), "votes for the hand": votes}
