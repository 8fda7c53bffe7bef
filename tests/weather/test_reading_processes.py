"""Forked, spawned and threaded readers open what they read themselves."""

import asyncio
import multiprocessing
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import weather_stores as stores
from rawdiff_weather.reading import Reader
from torch.utils.data import DataLoader


class Samples:
    """A torch data set over a reader."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader.plan.times)

    def __getitem__(self, index: int) -> Any:
        return self.reader.read([index])[0]


@pytest.mark.parametrize("layout", ["low_resolution", "copernicus"])
def test_forked_workers_read_while_their_parent_reads(tmp_path: Path, layout: str) -> None:
    """They do not wait for a thread or a lock of the parent, which a fork leaves behind."""
    dataset = stores.known()
    reader = stores.open_reader(stores.LAYOUTS[layout](dataset, tmp_path))
    reader.read([0])
    stopped = threading.Event()

    def go_on() -> None:
        while not stopped.is_set():
            reader.read([0, 5])

    thread = threading.Thread(target=go_on)
    thread.start()
    loader: Any = DataLoader(
        Samples(reader),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="fork",
        timeout=60,  # type: ignore[arg-type]
    )
    try:
        read = np.stack([x.numpy() for x in loader])
    finally:
        stopped.set()
        thread.join()
    np.testing.assert_array_equal(read, stores.fields(dataset))


def read_all(reader: Reader) -> stores.Fields:
    return reader.read(range(len(reader.plan.times)))


def test_a_spawned_process_opens_its_own_files(tmp_path: Path) -> None:
    dataset = stores.known()
    reader = stores.open_reader(stores.low_resolution(dataset, tmp_path))
    reader.read([0])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        read = pool.apply_async(read_all, (reader,)).get(timeout=120)
    np.testing.assert_array_equal(read, stores.fields(dataset))


def test_files_of_another_process_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    dataset, really_open = stores.known(), netCDF4.Dataset
    reader = stores.open_reader(stores.copernicus(dataset, tmp_path))

    def counted(path: str) -> netCDF4.Dataset:
        opened.append(path)
        return really_open(path)

    monkeypatch.setattr(netCDF4, "Dataset", counted)
    reader.read([0])
    reader.read([1])
    assert len(opened) == 1
    forked = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: forked)
    np.testing.assert_array_equal(reader.read([1]), stores.fields(dataset)[[1]])
    assert len(opened) == 2


def test_each_file_is_opened_once_in_a_call_and_few_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawdiff_weather.opened.MAX_OPEN_FILES", 2)
    dataset = stores.known(6)
    for i in range(6):
        dataset.isel(time=[i]).to_netcdf(tmp_path / f"{i}.nc")
    reader = stores.open_reader(str(tmp_path / "*.nc"))
    opened: list[netCDF4.Dataset] = []
    really_open = netCDF4.Dataset

    def kept(path: str) -> netCDF4.Dataset:
        opened.append(really_open(path))
        return opened[-1]

    monkeypatch.setattr(netCDF4, "Dataset", kept)
    np.testing.assert_array_equal(reader.read(range(6)), stores.fields(dataset))
    assert [file.isopen() for file in opened] == [False] * 4 + [True] * 2


def test_a_notebook_whose_event_loop_runs_may_read(tmp_path: Path) -> None:
    dataset = stores.known()
    reader = stores.open_reader(stores.full_resolution(dataset, tmp_path))

    async def cell() -> stores.Fields:
        return reader.read([3])

    np.testing.assert_array_equal(asyncio.run(cell()), stores.fields(dataset)[[3]])


def test_an_open_reader_is_small_when_it_travels(tmp_path: Path) -> None:
    reader = stores.open_reader(stores.copernicus(stores.known(), tmp_path))
    reader.read([0])
    assert len(pickle.dumps(reader)) < 10_000


def test_a_plan_of_many_files_is_small_when_it_travels(tmp_path: Path) -> None:
    """Their grids are one object, and 12 of 1440 longitudes alone would be 138 kB."""
    dataset = stores.known(12, longitude=tuple(np.arange(0, 360, 0.25)))[["msl"]]
    for i in range(12):
        dataset.isel(time=[i]).to_netcdf(tmp_path / f"{i:02}.nc")
    reader = stores.open_reader(str(tmp_path / "*.nc"), variables=None)
    assert len(pickle.dumps(reader)) < 60_000
