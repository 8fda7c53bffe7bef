"""Which stretch of each stored chunk is needed, and where it goes: each chunk is met once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rawdiff_weather.axes import ROLES, Ints, Role
from rawdiff_weather.layout import Piece
from rawdiff_weather.selection import Channel, Plan


class Run(NamedTuple):
    """Neighbours that are copied as one: `stored` counts from the part's start, `placed` is in
    the result."""

    stored: slice
    placed: slice


class Part(NamedTuple):
    """From `start` to `stop` along one dim, all in one chunk."""

    start: int
    stop: int
    runs: tuple[Run, ...]


class Samples(NamedTuple):
    """The times and members of one chunk: `places` are (place in the result, time, member)."""

    times: tuple[int, int]
    members: tuple[int, int]
    places: tuple[tuple[int, int, int], ...]


class Block(NamedTuple):
    """One stretch of a stored array that lies in one chunk, and what is copied out of it."""

    samples: Samples
    lead: int
    level: Part
    latitude: Part
    longitude: Part

    def selection(self, piece: Piece) -> tuple[slice, ...]:
        """By the dims as they are stored."""
        stretches: Mapping[Role | None, slice] = {
            None: slice(0, 1),
            "time": slice(*self.samples.times),
            "member": slice(*self.samples.members),
            "lead": slice(self.lead, self.lead + 1),
            "level": slice(self.level.start, self.level.stop),
            "latitude": slice(self.latitude.start, self.latitude.stop),
            "longitude": slice(self.longitude.start, self.longitude.stop),
        }
        return tuple(stretches[role] for role in piece.roles)

    def target(
        self, piece: Piece, result: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32] | None:
        """The part of result [T, C, latitude, longitude] that is one whole chunk as it is stored.

        None if it has to be cut out, turned, unpacked or copied to several places.
        """
        wanted = tuple(s.stop - s.start for s in self.selection(piece))
        runs = [part.runs for part in (self.level, self.latitude, self.longitude)]
        one = len(self.samples.places) == 1 and all(len(run) == 1 for run in runs)
        if not one or wanted != piece.chunks or not piece.packing.is_float32:
            return None
        known = [ROLES.index(role) for role in piece.roles if role]
        if known != sorted(known) or any((run[0].stored.step or 1) < 0 for run in runs):
            return None
        level, latitude, longitude = (run[0].placed for run in runs)
        field = result[self.samples.places[0][0], level, latitude, longitude]
        return field.reshape(piece.chunks) if field.flags.c_contiguous else None

    def place(
        self, stored: npt.NDArray[Any], piece: Piece, result: npt.NDArray[np.float32]
    ) -> None:
        """Copy what was read, unpacked, into result [T, C, latitude, longitude]."""
        fields = _canonical(stored, piece.roles)[:, :, 0]
        runs = list(product(self.level.runs, self.latitude.runs, self.longitude.runs))
        for index, time, member in self.samples.places:
            for level, latitude, longitude in runs:
                part = fields[time, member, level.stored, latitude.stored, longitude.stored]
                target = result[index, level.placed, latitude.placed, longitude.placed]
                target[...] = piece.packing.unpack(part)


@dataclass(frozen=True, eq=False)
class FieldPlan:
    """How the channels of one variable come out of one of its pieces."""

    piece: Piece
    levels: tuple[Part, ...]
    latitudes: tuple[Part, ...]
    longitudes: tuple[Part, ...]
    lead: int

    @staticmethod
    def of(plan: Plan, piece: Piece, channels: Sequence[tuple[int, Channel]]) -> FieldPlan:
        """`channels` are those of the piece's variable, with their places in the result."""
        stored = [0 if c.level is None else piece.levels.index(c.level) for _, c in channels]
        placed = np.array([place for place, _ in channels])

        def parts(role: Role, stored: Ints, placed: Ints) -> tuple[Part, ...]:
            return tuple(cut(stored, placed, _chunk(piece, role)))

        return FieldPlan(
            piece=piece,
            levels=parts("level", np.array(stored), placed),
            latitudes=parts("latitude", piece.latitude[plan.rows], np.arange(len(plan.rows))),
            longitudes=parts(
                "longitude", piece.longitude[plan.columns], np.arange(len(plan.columns))
            ),
            lead=plan.lead if "lead" in piece.roles else 0,
        )

    def blocks(self, times: Ints, members: Ints, placed: Ints) -> Iterator[Block]:
        """For the stored times and members [n] that go to `placed` [n]."""
        time_chunk, member_chunk = (_chunk(self.piece, role) for role in ("time", "member"))
        has_time, has_member = "time" in self.piece.roles, "member" in self.piece.roles
        chunks: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
        for time, member, place in zip(times.tolist(), members.tolist(), placed.tolist(),
                                       strict=True):  # fmt: skip
            t, m = time * has_time, member * has_member
            chunks[t // time_chunk, m // member_chunk].append((place, t, m))
        for _, inside in sorted(chunks.items()):
            _, t, m = zip(*inside, strict=True)
            first_t, first_m = min(t), min(m)
            samples = Samples(
                times=(first_t, max(t) + 1),
                members=(first_m, max(m) + 1),
                places=tuple((place, t - first_t, m - first_m) for place, t, m in inside),
            )
            for level, latitude, longitude in product(self.levels, self.latitudes, self.longitudes):
                yield Block(samples, self.lead, level, latitude, longitude)


def cut(stored: Ints, placed: Ints, chunk: int) -> Iterator[Part]:
    """Parts of the indices `stored` [n] that go to `placed` [n], one for each chunk."""
    for number in np.unique(stored // chunk):
        here = np.flatnonzero(stored // chunk == number)
        start, stop = int(stored[here].min()), int(stored[here].max()) + 1
        yield Part(start, stop, tuple(_runs(stored[here] - start, placed[here])))


def _runs(stored: Ints, placed: Ints) -> Iterator[Run]:
    steps = np.where(np.diff(placed) == 1, np.diff(stored), 0).tolist()
    first = 0
    while first < len(stored):
        step = steps[first] if first < len(steps) and abs(steps[first]) == 1 else 0
        last = first
        while step and last < len(steps) and steps[last] == step:
            last += 1
        begin, end = int(stored[first]), int(stored[last])
        where = slice(end, begin + 1) if step < 0 else slice(begin, end + 1)
        if step < 0:
            where = slice(begin, end - 1 if end else None, -1)
        yield Run(where, slice(int(placed[first]), int(placed[last]) + 1))
        first = last + 1


def _canonical(stored: npt.NDArray[Any], roles: tuple[Role | None, ...]) -> npt.NDArray[Any]:
    """[time, member, lead, level, latitude, longitude], of size one where there is no such dim."""
    known = [role for role in roles if role is not None]
    values = stored[tuple(slice(None) if role else 0 for role in roles)]
    order = [known.index(role) for role in ROLES if role in known]
    values = values.transpose(order)
    return values[tuple(slice(None) if role in roles else None for role in ROLES)]


def _chunk(piece: Piece, role: Role) -> int:
    return piece.chunks[piece.roles.index(role)] if role in piece.roles else 1
