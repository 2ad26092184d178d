"""Read the arrays and plain data in a pickle, without running the code that a pickle can name.

A pickle is a program for a stack machine, and one of its instructions calls any function of any module. Python's own
unpickler runs the program here, but it looks up each name in a table of this module, so nothing is imported and only
the functions below are called. They check their arguments before NumPy reads them. Instructions that neither arrays
nor plain data need are refused, and so is a program that makes too much.
Source: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

MOST_BYTES = 2**29  # of a decompressed pickle, and of all that is made from it
OBJECT_BYTES = 256  # that each instruction counts for, as much as a dict of one item takes
MOST_AXES = 8  # of an array
KEY_BITS = 60  # of a number as a key in a dict: many larger ones can have the same hash
KEY_LENGTH = 1000  # of a text as a key
DTYPE = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1|\?|[US][1-9]\d{0,3})")
TORCH_MAGIC = 0x1950A86A20F9469CFC6C
INSTRUCTIONS = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET NONE NEWTRUE "
    "NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE "
    "TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL "
    "REDUCE NEWOBJ BUILD BINPERSID"
)
"""The admitted instructions. The others make sets, call functions, or refer to what is outside the file."""


class Refused(ValueError):
    """Raised for data that are no pickle, and for a pickle that asks for more than arrays and plain data."""


def read(data: bytes) -> Any:
    """Return what a pickle or joblib file holds, compressed by zlib or gzip or not at all. Raises Refused."""
    try:
        return _DataUnpickler(BytesIO(_decompressed(data)), MOST_BYTES).load()
    except Refused:
        raise
    except Exception as error:  # NumPy and the unpickler raise many kinds on data that make no sense
        raise Refused("it is damaged, or not a pickle") from error


def _decompressed(data: bytes) -> bytes:
    if data[:1] != b"\x78" and data[:2] != b"\x1f\x8b":
        return data
    decompressor = zlib.decompressobj(wbits=47)  # zlib's or gzip's header
    try:
        decompressed = decompressor.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise Refused("its compression is damaged") from error
    _require(not decompressor.unconsumed_tail, f"it unpacks to more than {MOST_BYTES // 2**20} MiB")
    return decompressed


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Refused(message)


# ------------------------------------------------------------------ the functions that a pickle can call, and no others


def _dtype(code: Any, *_: Any) -> np.dtype[Any]:
    """Return a new type of numbers or text: its byte order is set later, which must not change NumPy's own object."""
    known = isinstance(code, str) and DTYPE.fullmatch(code) is not None
    _require(known, "it holds an array of Python objects, not of numbers or text")
    return np.dtype(code, copy=True)


def _shape(value: Any) -> tuple[int, ...]:
    """Return a shape: a few whole numbers, none of them negative or beyond what a file can hold."""
    few = isinstance(value, tuple) and len(value) <= MOST_AXES
    sound = few and all(isinstance(size, int) and 0 <= size <= MOST_BYTES for size in value)
    _require(sound, "it has an array of a damaged shape")
    return value


def _array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Any:
    """Return a copy of `data`, exactly as many bytes as type and shape need, as an array."""
    if isinstance(data, str):
        data = data.encode("latin-1")  # bytes of Python 2
    fits = isinstance(dtype, np.dtype) and len(data) == math.prod(_shape(shape)) * dtype.itemsize
    _require(fits, "it has an array of a damaged type or size")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """Return a PyTorch tensor as an array: the element at i is the storage's at offset + i · stride."""
    size, stride, (offset,) = _shape(size), _shape(stride), _shape((offset,))
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    flat = isinstance(storage, np.ndarray) and storage.ndim == 1
    within = flat and last < len(storage) and math.prod(size) <= len(storage)
    _require(within, "it has a tensor of a damaged shape")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


def _encode(text: str, encoding: str) -> bytes:
    _require(encoding in ("latin1", "latin-1"), "it encodes text in an unusual way")
    return text.encode("latin-1")


Names = dict[tuple[str, str], Any]


class _JoblibArray:
    """joblib's description of an array, whose numbers follow in the file."""


CALLS: Names = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): "an argument of _reconstruct, not a function",
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _JoblibArray,
    ("collections", "OrderedDict"): lambda: {},
    ("_codecs", "encode"): _encode,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: np.empty(0),  # BUILD sets its shape and numbers
    ("numpy._core.multiarray", "scalar"): lambda dtype, data: _array(data, dtype, (1,))[0],
    ("numpy._core.numeric", "_frombuffer"): _array,
}
STORAGES: Names = {
    ("torch", f"{name}Storage"): code
    for name, code in {"Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4"}.items()
}


# ---------------------------------------------------------------------------------------------------- the unpickler


_Unpickler: Any = pickle._Unpickler  # without the types of the C one


class _DataUnpickler(_Unpickler):  # type: ignore[misc]
    """Python's unpickler, limited to `INSTRUCTIONS`, and to names that are in a table.

    It is the one that is written in Python, as joblib's is: joblib's numbers lie between two instructions.
    """

    def __init__(self, file: BytesIO, left: int, names: Names | None = None) -> None:
        super().__init__(file, encoding="latin1")  # text of Python 2 can be the bytes of an array
        self.left = left  # bytes that may still be made
        self.names = names or CALLS | {("torch.storage", "_load_from_bytes"): self.storage}

    def spend(self, size: int) -> None:
        """Count the bytes that are made. Raises Refused when they are too many."""
        self.left -= size
        _require(self.left >= 0, f"its data take more than {MOST_BYTES // 2**20} MiB")

    def find_class(self, module: str, name: str) -> Any:
        key = module.replace("numpy.core.", "numpy._core."), name  # its name before NumPy 2
        asked = f"{module}.{name}"[:80]
        _require(key in self.names, f"it asks for {asked}, which is not plain data and might do harm")
        return self.names[key]

    def persistent_load(self, id: Any) -> Any:
        """Return type and size of a PyTorch storage, ('storage', type, key, where, size, …)."""
        _require(self.names is STORAGES and isinstance(id, tuple), "it refers to data outside the file")
        word, code, _, _, size, *_ = id
        _require(word == "storage" and code in STORAGES.values(), "it refers to data outside the file")
        return (np.dtype(code), *_shape((size,)))

    def storage(self, data: bytes) -> Any:
        """Return the numbers (size,) of a PyTorch storage: four pickles, the last a reference; keys; size; bytes."""
        _require(isinstance(data, bytes), "it has a tensor without numbers")
        file = BytesIO(data)
        inner = _DataUnpickler(file, self.left, STORAGES)
        magic, _, system, (dtype, size), _ = [inner.load() for _ in range(5)]
        self.left = inner.left
        known = magic == TORCH_MAGIC and system["little_endian"]
        fits = struct.unpack("<q", file.read(8)) == (size,)
        _require(known and fits, "it holds a tensor in a form that is not known, or of a damaged size")
        return _array(file.read(size * dtype.itemsize), dtype, (size,))

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        admitted = callable(function) and isinstance(arguments, tuple)
        _require(admitted, "it calls something that does not make an array")
        made = function(*arguments)
        self.spend(len(made) if isinstance(made, bytes) else getattr(made, "nbytes", 0))
        self.append(made)

    load_newobj = load_reduce

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        _require(isinstance(state, tuple | dict), "it has an object of a damaged state")
        if isinstance(target, np.dtype):
            _require(state[1] in ("<", ">", "=", "|"), "it has an array of a damaged byte order")
            state = (3, state[1], None, None, None, target.itemsize, target.alignment, 0)
            target.__setstate__(state)  # type: ignore[attr-defined]
        elif isinstance(target, np.ndarray):
            *_, shape, dtype, fortran, data = state
            target.__setstate__(_array(data, dtype, shape, "F" if fortran else "C").__reduce__()[2])
            self.spend(target.nbytes)
        elif isinstance(target, _JoblibArray):
            if state.get("numpy_array_alignment_bytes") is not None:
                self.read(self.read(1)[0])
            shape, dtype = _shape(state["shape"]), state["dtype"]
            data = self.read(math.prod(shape) * dtype.itemsize)
            self.stack[-1] = _array(data, dtype, shape, state["order"])
            self.spend(len(data))
        else:
            raise Refused("it sets the state of an object, and objects are not admitted")

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))  # pickle's own reserves `size` bytes before it reads

    def set_items(self, items: list[Any]) -> None:
        """Fill a dict whose keys are quick to hash and to compare: nested tuples or long texts can take forever."""
        _require(isinstance(self.stack[-1], dict), "it sets an item of something that is not a dict")
        for key in items[::2]:
            text = isinstance(key, str | bytes) and len(key) <= KEY_LENGTH
            number = isinstance(key, int) and key.bit_length() <= KEY_BITS
            _require(text or number, "it has a dict with a key that is neither a short text nor a number")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def load_setitem(self) -> None:
        self.set_items([self.stack.pop(-2), self.stack.pop()])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    def refuse(self) -> None:
        raise Refused("it has an instruction that neither arrays nor plain data need")


def _counted(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def instruction(unpickler: Any) -> None:
        unpickler.spend(OBJECT_BYTES)
        load(unpickler)

    return instruction


_codes = {getattr(pickle, name)[0] for name in INSTRUCTIONS.split()}
_DataUnpickler.dispatch = {
    code: _counted(getattr(_DataUnpickler, load.__name__)) if code in _codes else _DataUnpickler.refuse
    for code, load in _DataUnpickler.dispatch.items()
}
