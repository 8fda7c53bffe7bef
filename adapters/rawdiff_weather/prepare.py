"""Writes a packed copy of states, each of them once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rawdiff.conditions import spread
from rawdiff.errors import UserError
from rawdiff.files import atomic, locked
from rawdiff_weather.axes import Fields, Ints
from rawdiff_weather.layout import Piece
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Channel, Plan
from rawdiff_weather.states import FLOAT32, STATES, STATIC, Index, PackedVariable, read_index

AT_ONCE = 2**26  # bytes of states that are read and written together
NUM_COMPARED = 4  # times whose values tell whether files were exchanged
BETWEEN_INDICES = 2**30  # bytes after which what is there is written down, for the next call


def describe(plan: Plan) -> Index:
    """An index without times of such fields."""
    step = plan.times.step
    return Index(
        variables=_variables(plan, plan.channels),
        static=_variables(plan, plan.static),
        latitude=tuple(plan.latitude.tolist()),
        longitude=tuple(plan.longitude.tolist()),
        members=plan.members,
        calendar=plan.times.calendar,
        time_step=(step.count, step.unit) if step else None,
    )


def _variables(plan: Plan, channels: Sequence[Channel]) -> tuple[PackedVariable, ...]:
    return tuple(
        PackedVariable(
            name=name,
            levels=tuple(c.level for c in channels if c.variable == name and c.level is not None),
            attributes={key: _plain(v) for key, v in plan.variables[name].attributes.items()},
        )
        for name in dict.fromkeys(channel.variable for channel in channels)
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(value).tolist()


def is_of(index: Index, plan: Plan) -> bool:
    """Whether a copy holds fields such as the plan's, at whatever times."""
    times: dict[str, Any] = {"seconds": (), "ranges": {}}
    return index.model_copy(update=times).model_dump_json() == describe(plan).model_dump_json()


def require_same_states(folder: Path, packed: Plan, source: Plan) -> None:
    """UserError unless a source has what was packed, at the same times; a few are compared."""
    if len(packed.times) != len(source.times):
        raise UserError(
            f"{folder} was packed from {len(packed.times)} times, but its source now has "
            f"{len(source.times)}. Run `rawdiff prepare` again: it adds new ones. Where others are "
            "gone, delete that folder first."
        )
    same_times = np.array_equal(packed.times.seconds, source.times.seconds)
    if not same_times or describe(packed).model_dump_json() != describe(source).model_dump_json():
        raise UserError(_other_fields(folder))
    few = spread(NUM_COMPARED, len(source.times))
    if not np.array_equal(Reader(packed).read(few), Reader(source).read(few), equal_nan=True):
        raise UserError(
            f"{folder} holds other values than its source has now, at the same times. Delete it, "
            "and run `rawdiff prepare` to pack them anew."
        )


def _other_fields(folder: Path) -> str:
    return (
        f"{folder} holds other fields than its source has now (other times, channels, units, "
        "attributes, places or members). Delete it, and run `rawdiff prepare` to pack them anew."
    )


def pack_states(
    reader: Reader,
    range_name: str,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Add the times of a reader that `folder` lacks, and note that `range_name` is there.

    What an earlier call wrote, finished or not, is kept. `progress` is told how many times are
    done, of how many. UserError if the folder holds other fields or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            _pack(reader, range_name, folder, progress)
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder}: {error.strerror}. Make room there or mend its rights, and "
            "run the same command again: it goes on from there."
        ) from error


def _pack(
    reader: Reader, range_name: str, folder: Path, progress: Callable[[int, int], None]
) -> None:
    plan = reader.plan
    index = read_index(folder) or describe(plan)
    if not is_of(index, plan):
        raise UserError(_other_fields(folder))
    missing = np.flatnonzero(~np.isin(plan.times.seconds, index.seconds))
    _check_space(folder, len(missing) * index.bytes_of_a_time)
    if not index.seconds:
        with atomic(folder / STATIC) as file:
            order = _stored_order(plan.static)
            file.write(reader.read_static()[order].astype(FLOAT32).tobytes())
    order, done = _stored_order(plan.channels), len(plan.times) - len(missing)
    seconds, noted = list(index.seconds), len(index.seconds)
    with (folder / STATES).open("ab") as states:
        states.truncate(len(seconds) * index.bytes_of_a_time)  # what a killed call began
        for times in _stretches(plan, missing, index.bytes_of_a_time):
            fields = _all_members(reader, times)[:, order]
            states.write(np.ascontiguousarray(fields, FLOAT32).data)
            seconds += plan.times.seconds[times].tolist()
            if (len(seconds) - noted) * index.bytes_of_a_time >= BETWEEN_INDICES:
                _note(index, seconds, states, folder)
                noted = len(seconds)
            done += len(times)
            progress(done, len(plan.times))
        ranges = index.ranges | {range_name: len(plan.times)}
        _note(index.model_copy(update={"ranges": ranges}), seconds, states, folder)


def _note(index: Index, seconds: Sequence[int], states: Any, folder: Path) -> None:
    """Only what is on the disk."""
    states.flush()
    os.fsync(states.fileno())
    index.model_copy(update={"seconds": tuple(seconds)}).write(folder)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"The packed copy needs {needed / 2**30:,.1f} GiB more, but {folder.resolve()} has "
            f"{free / 2**30:,.1f} GiB free. Make room, or put a link to a larger disk there."
        )


def _stored_order(channels: Sequence[Channel]) -> list[int]:
    """Channels of one variable beside each other."""
    names = list(dict.fromkeys(channel.variable for channel in channels))
    return sorted(range(len(channels)), key=lambda i: names.index(channels[i].variable))


def _stretches(plan: Plan, times: Ints, bytes_of_a_time: int) -> Iterator[Ints]:
    """Parts of the times that are read together: whole chunks of the source, where they fit."""
    width = max(1, AT_ONCE // bytes_of_a_time)
    longest = max(_chunk(piece) for v in plan.variables.values() for piece in v.pieces)
    if width >= longest:
        width -= width % longest
    numbers = plan.time_indices[times] // width
    for number in np.unique(numbers):
        yield times[numbers == number]


def _chunk(piece: Piece) -> int:
    return piece.chunks[piece.roles.index("time")] if "time" in piece.roles else 1


def _all_members(reader: Reader, times: Ints) -> Fields:
    """[times x members, channel, latitude, longitude]."""
    count = max(len(reader.plan.members), 1)
    return reader.read(np.repeat(times, count), np.tile(np.arange(count), len(times)))
