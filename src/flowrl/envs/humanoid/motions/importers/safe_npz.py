"""Read the numbers and text in an `.npz` without running code, and without reserving what a header declares."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MOST_BYTES = 2**29  # of all arrays, unpacked
MOST_MEMBERS = 1000  # of an archive: zipfile makes an object of each, ten times as large as its entry
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError),
    tokenize.TokenError,  # of NumPy, which reads a header as Python
)


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays by name; those of Python objects are left out. Raises ValueError."""
    try:
        if data.count(b"PK\x01\x02") > MOST_MEMBERS:
            raise ValueError(f"it has more than {MOST_MEMBERS} arrays")
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError(f"its arrays unpack to more than {MOST_BYTES // 2**20} MiB")
            arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except DAMAGED as error:
        raise ValueError("it is damaged, or not an .npz file") from error
    return {name: array for name, array in arrays.items() if array is not None}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any] | None:
    """Return one array, sized by its data: NumPy's own reader reserves what the header declares."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"{member.filename} in it is of the unknown version {version}")
        shape, fortran, dtype = HEADERS[version](file)
        if dtype.hasobject:
            return None
        numbers = file.read()
    array = np.frombuffer(numbers, dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def numbers(arrays: dict[str, NDArray[Any]], name: str, *shape: int | None) -> NDArray[np.float64]:
    """Return the array of that name as floats, whose shape is `shape` (None: any length). Raises ValueError."""
    if name not in arrays:
        raise ValueError(f"it has no {name!r}; it has {', '.join(sorted(arrays)) or 'nothing'}")
    array = arrays[name]
    fits = len(array.shape) == len(shape) and all(
        want is None or has == want for has, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in "fiub":
        wanted = ", ".join("frames" if want is None else str(want) for want in shape)
        raise ValueError(f"{name!r} is of shape {array.shape} and type {array.dtype}, not numbers ({wanted})")
    if 8 * array.size > MOST_BYTES:
        raise ValueError(f"{name!r} takes more than {MOST_BYTES // 2**20} MiB")
    return array.astype(np.float64)


def one_number(arrays: dict[str, NDArray[Any]], name: str) -> float:
    """Return the one number in the array of that name, of shape () or (1,). Raises ValueError."""
    return float(numbers({name: arrays[name].reshape(-1)} if name in arrays else arrays, name, 1)[0])
