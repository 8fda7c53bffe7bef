"""Arrays in NumPy, zarr and HDF5 files, opened without reading them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rawdiff.errors import UserError


class Stored(Protocol):
    """An array in a file that is read piece by piece: NumPy's, h5py's or zarr's."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, place: Any, /) -> Any: ...


def open_array(path: Path, key: str | None, *, default: str, setting: str | None = None) -> Stored:
    """An array of real numbers in a file: under `key`, else the only one, or `default`.

    `setting` is the one that gives the key, if there is one; errors name it. Raises
    UserError if the file or the key is missing, or if it cannot be read.
    """
    path = path.expanduser()
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        raise UserError(f"{path} is of no known kind; a path must end in {', '.join(OPENERS)}.")
    if not path.exists():
        raise UserError(f"{path} does not exist. Look at the path; it is taken from {Path.cwd()}.")
    try:
        arrays = opener(path)
        array = arrays[_choose(path, list(arrays), key, default, setting)]
    except UserError:
        raise
    except Exception as error:
        raise unreadable(path, "it", error) from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise UserError(
            f"{path} holds values of dtype {array.dtype}, but only real numbers can be used. Save "
            "them as float32; complex ones as two channels."
        )
    return array


def _choose(
    path: Path, names: list[str], key: str | None, default: str, setting: str | None
) -> str:
    if names == [""] and key is None:
        return ""
    listed = ", ".join(f"`{name}`" for name in names[:20]) if names != [""] else "one without name"
    if key is None:
        if len(names) == 1:
            return names[0]
        if default in names:
            return default
        cure = f"write `{setting}`" if setting else f"name it `{default}` there"
        raise UserError(f"{path} has these arrays: {listed or 'none'}. Say which to take: {cure}.")
    if key not in names:
        raise UserError(f"{path} has no array `{key}`; it has: {listed or 'none'}.")
    return key


def unreadable(path: Path, what: str, error: Exception) -> UserError:
    return UserError(
        f"{path}: {what} cannot be read ({type(error).__name__}: {error}). The file is damaged, "
        "unfinished, or not what its suffix says: write it again."
    )


def _npy(path: Path) -> Mapping[str, Stored]:
    return {"": np.lib.format.open_memmap(path, mode="r")}


def _npz(path: Path) -> Mapping[str, Stored]:
    archive: Mapping[str, Stored] = np.load(path, allow_pickle=False)
    return archive


def _zarr(path: Path) -> Mapping[str, Stored]:
    zarr = _package("zarr", path)
    zipped = path.suffix.lower() == ".zip"
    node = zarr.open(zarr.storage.ZipStore(path, mode="r") if zipped else path, mode="r")
    nodes = {"": node} if isinstance(node, zarr.Array) else dict(node.members(max_depth=None))
    return {name: node for name, node in nodes.items() if isinstance(node, zarr.Array)}


def _hdf5(path: Path) -> Mapping[str, Stored]:
    h5py = _package("h5py", path)
    file, arrays = h5py.File(path, "r"), {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[name] = node

    file.visititems(keep)
    return arrays


def _package(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{path} needs {name}: `pip install rawdiff[arrays]`.") from error


OPENERS: dict[str, Callable[[Path], Mapping[str, Stored]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".zarr": _zarr,
    ".zip": _zarr,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
