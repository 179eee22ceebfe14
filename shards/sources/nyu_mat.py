"""The official labelled file of NYUDv2: a MATLAB 7.3 file, which is HDF5, of pictures and their depth.

    images    uint8   (1449, 3, 640, 480)    picture, channel, column, row: MATLAB counts its axes from the other end
    depths    float32 (1449, 640, 480)       metres

It is opened anew for each picture, so that any process may read it. h5py is needed: pip install depthrank[mat].

    image, depth_m = NyuMatFile("nyu_depth_v2_labeled.mat").read(0)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import DecodeError, SourceError
from shards.images import MAX_PIXELS
from shards.maps import MAX_MAP_SIDE_PX
from shards.names import printable
from shards.storage import local_path

__all__ = ["NyuMatFile"]

_MAX_PICTURES = 1_000_000


class NyuMatFile:
    """The pictures of one `.mat` file of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __len__(self) -> int:
        """How many pictures there are.

        Raises:
            SourceError: The file is missing or of another layout, or h5py is not installed.
        """
        return self._count

    def read(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """One picture, uint8 (H, W, 3), and its depth in metres, float32 (H, W).

        Raises:
            DecodeError: It cannot be decompressed.
            SourceError: The file is missing or of another layout, or h5py is not installed.
        """
        with self._opened() as (images, depths):
            try:
                image, depth_m = images[number], depths[number]
            except (OSError, ValueError, IndexError, RuntimeError) as error:
                raise DecodeError(f"picture {number}: cannot be read ({error})") from None
        return np.ascontiguousarray(image.transpose(2, 1, 0)), np.ascontiguousarray(depth_m.T)

    @cached_property
    def _count(self) -> int:
        with self._opened() as (images, _):
            return len(images)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The two tables, whose shapes are checked and which lie in this file alone."""
        try:
            import h5py
        except ImportError:
            raise SourceError(
                "source.path: a .mat file needs h5py, which is not installed: pip install 'depthrank[mat]'"
            ) from None
        where = f"source.path: {printable(Path(self._path).name)}"
        path = local_path(self._path)
        if path is None or not path.is_file():
            raise SourceError(f"{where}: a .mat is read from a file of this machine, and there is none of that name")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise SourceError(f"{where}: is no MATLAB 7.3 (HDF5) file ({error})") from None
        with file:
            tables = []
            for name, dtype, dimensions in (("images", np.uint8, 4), ("depths", np.float32, 3)):
                table = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
                # Data that lies in other files would let a stranger's file show anything of this machine.
                if not isinstance(table, h5py.Dataset) or table.external or table.is_virtual:
                    raise SourceError(f"{where}: has no table {name}; the official labelled file of NYUDv2 is needed")
                if table.dtype != dtype or table.ndim != dimensions:
                    raise SourceError(f"{where}: {name} is {table.dtype} {table.shape}, not as in the official file")
                tables.append(table)
            images, depths = tables
            count, channels, width, height = images.shape
            if channels != 3 or depths.shape != (count, width, height) or not 0 < count <= _MAX_PICTURES:
                raise SourceError(f"{where}: images {images.shape} and depths {depths.shape} do not fit together")
            if max(width, height) > MAX_MAP_SIDE_PX or width * height > MAX_PIXELS:
                raise SourceError(f"{where}: pictures of {width}x{height} pixels are larger than is accepted")
            yield images, depths
