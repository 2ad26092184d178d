"""The data in a pickle, without what it asks to be run.

A pickle is a program for a stack machine, and one of its instructions calls any function of any module. The machine
here calls none: it knows numbers, text, bytes, lists, tuples and dicts, and for the few names below, with which
NumPy, joblib and PyTorch write arrays, it does by itself what is meant. Every other name is refused when it is read.
"""

from __future__ import annotations

import math
import pickletools
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np

MOST_BYTES = 2**29  # of a pickle, unpacked
DTYPE = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1|\?|[US]\d{1,4})")
MOST_AXES = 8  # of an array
DAMAGE = (
    *(ValueError, TypeError, LookupError, OverflowError, AttributeError),
    *(MemoryError, RecursionError, struct.error),
)  # that anything may raise on data that make no sense
TORCH_MAGIC = 0x1950A86A20F9469CFC6C


class Refused(ValueError):
    """It is no pickle, or one that asks for more than data."""


def read(data: bytes) -> Any:
    """What a pickle or joblib file holds, compressed by zlib or gzip or not at all. Raises Refused."""
    try:
        return _Machine(BytesIO(_unpacked(data))).run()
    except Refused:
        raise
    except DAMAGE as error:
        raise Refused("it is damaged, or no pickle at all") from error


def _unpacked(data: bytes) -> bytes:
    if data[:1] != b"\x78" and data[:2] != b"\x1f\x8b":
        return data
    unpacker = zlib.decompressobj(wbits=47)  # zlib's or gzip's header
    try:
        unpacked = unpacker.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise Refused("its compression is damaged") from error
    if unpacker.unconsumed_tail:
        raise Refused(f"it unpacks to more than {MOST_BYTES // 2**20} MiB")
    return unpacked


@dataclass(frozen=True)
class Name:
    """A function or class that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Unfinished:
    """An array, or a type of numbers, whose state comes with a later instruction."""

    what: Name
    state: dict[str, Any] = field(default_factory=dict)
    memorised: list[int] = field(default_factory=list)  # where in the memo it stands until then


class _Machine:
    """Runs one pickle; what follows it in `file` is left there."""

    def __init__(self, file: BytesIO) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.left = MOST_BYTES  # of what may yet be made: bytes that stand once can be asked for many times

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self.file):
            if opcode.name in VALUES:
                self.stack.append(argument)
            elif opcode.name in INSTRUCTIONS:
                INSTRUCTIONS[opcode.name](self, argument)
            else:
                raise Refused(f"it uses {opcode.name}, which no array and no plain data need")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def memorise(self, place: int) -> None:
        self.memo[place] = self.stack[-1]
        if isinstance(self.stack[-1], Unfinished):
            self.stack[-1].memorised.append(place)

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise Refused("it appends to what is no list")
        target.extend(items)

    def fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise Refused("it sets an item of what is no dict")
        target.update(_dict(items))

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused("it names a function by what is no text")
        known = Name(module, name)
        if known not in CALLS and known not in STORAGES and known not in MENTIONED:
            raise Refused(f"it asks for {str(known)[:80]}, which is no plain data and might do harm")
        self.push(known)

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Name) or function not in CALLS or not isinstance(arguments, tuple):
            raise Refused("it calls what does not make an array")
        self.push(self.counted(CALLS[function](*arguments)))

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, Unfinished):
            raise Refused("it sets the state of an object, and objects are not admitted")
        finished = self.counted(FINISH[target.what](self, target, state))
        self.stack[-1] = finished
        for place in target.memorised:
            self.memo[place] = finished

    def counted(self, made: Any) -> Any:
        """What was made, itself. Raises Refused when all that was made is too much."""
        self.left -= (
            made.nbytes if isinstance(made, np.ndarray) else len(made) if isinstance(made, bytes) else 0
        )
        if self.left < 0:
            raise Refused(f"its arrays take more than {MOST_BYTES // 2**20} MiB")
        return made

    def persistent(self, id: Any) -> None:
        """The storage of a PyTorch tensor: ('storage', type, key, where, size, …); its numbers come later."""
        word, type_, _, _, size, *_ = id
        if word != "storage" or not isinstance(type_, Name) or type_ not in STORAGES:
            raise Refused("it refers to what is not in it")
        self.push((np.dtype(STORAGES[type_]), *_sizes((size,))))


def _dict(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    if not all(isinstance(key, str | int | bytes) for key in keys):
        raise Refused("it has a dict with a key that is neither text nor a number")
    return dict(zip(keys, items[1::2], strict=True))


def _popped(machine: _Machine, count: int) -> list[Any]:
    if len(machine.stack) < count:
        raise Refused("it is damaged: it takes what is not there")
    taken = machine.stack[-count:]
    del machine.stack[-count:]
    return taken


VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}

INSTRUCTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, argument: None),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, place: machine.memorise(place)),
    "MEMOIZE": lambda machine, _: machine.memorise(len(machine.memo)),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.push(machine.memo[place])
    ),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": lambda machine, _: machine.extend(_popped(machine, 1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(_popped(machine, 1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(_popped(machine, 2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(_popped(machine, 3))),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.push(_dict(machine.since_mark())),
    "SETITEM": lambda machine, _: machine.fill(_popped(machine, 2)),
    "SETITEMS": lambda machine, _: machine.fill(machine.since_mark()),
    "GLOBAL": lambda machine, words: machine.name(*words.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*_popped(machine, 2)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: machine.call(*_popped(machine, 2))),
    "BUILD": lambda machine, _: machine.build(*_popped(machine, 1)),
    "BINPERSID": lambda machine, _: machine.persistent(*_popped(machine, 1)),
}
"""What each instruction does; the others call functions, or refer to what is outside."""


# --------------------------------------------------------------------------------------- arrays, as they are pickled


def _type_of_numbers(code: Any, *_: Any) -> Unfinished:
    """numpy.dtype('f8', …), whose byte order comes as its state."""
    if not isinstance(code, str) or not DTYPE.fullmatch(code):
        raise Refused("it holds an array of Python objects, not of numbers or text")
    return Unfinished(DTYPE_NAME, {"dtype": np.dtype(code)})


def _ordered(machine: _Machine, unfinished: Unfinished, state: Any) -> np.dtype[Any]:
    order = state[1]
    if not isinstance(order, str) or order not in "<>=|":
        raise Refused("it has an array of a damaged byte order")
    return unfinished.state["dtype"].newbyteorder(order)


def _dtype(value: Any) -> np.dtype[Any]:
    if isinstance(value, Unfinished) and "dtype" in value.state:
        value = value.state["dtype"]
    if not isinstance(value, np.dtype):
        raise Refused("it has an array of a damaged type")
    return value


def _shaped(data: Any, dtype: Any, shape: Any, fortran: bool) -> Any:
    """The array of `shape` whose numbers stand in `data`."""
    if isinstance(data, str):
        data = data.encode("latin-1")  # bytes of Python 2
    if not isinstance(data, bytes | bytearray):
        raise Refused("it holds an array of Python objects, not of numbers or text")
    return np.frombuffer(data, _dtype(dtype)).reshape(_sizes(shape), order="F" if fortran else "C").copy()


def _sizes(value: Any) -> tuple[int, ...]:
    """A shape: a few whole numbers, none of which is negative or beyond what a file can hold."""
    if not isinstance(value, tuple) or len(value) > MOST_AXES:
        raise Refused("it has an array of a damaged shape")
    if not all(isinstance(size, int) and 0 <= size <= MOST_BYTES for size in value):
        raise Refused("it has an array of a damaged shape")
    return value


def _array_state(machine: _Machine, unfinished: Unfinished, state: Any) -> Any:
    """ndarray's state: version, shape, dtype, whether in Fortran's order, bytes."""
    *_, shape, dtype, fortran, data = state
    return _shaped(data, dtype, shape, bool(fortran))


def _wrapped(machine: _Machine, unfinished: Unfinished, state: Any) -> Any:
    """joblib's array: its description is the state, its bytes follow in the file, behind a padding."""
    dtype, shape = _dtype(state["dtype"]), _sizes(state["shape"])
    if state.get("numpy_array_alignment_bytes") is not None:
        machine.file.read(machine.file.read(1)[0])
    data = machine.file.read(math.prod(shape) * dtype.itemsize)
    return _shaped(data, dtype, shape, state["order"] == "F")


def _storage(data: Any) -> Any:
    """The numbers (size,) of a PyTorch storage: four pickles, the last a reference; keys; size and bytes."""
    file = BytesIO(data)
    magic, _, system, (dtype, size), _ = (_Machine(file).run() for _ in range(5))
    if magic != TORCH_MAGIC or not system["little_endian"]:
        raise Refused("it holds a tensor in a form that is not known")
    if struct.unpack("<q", file.read(8)) != (size,):
        raise Refused("it has a tensor of a damaged size")
    return _shaped(file.read(size * dtype.itemsize), dtype, (size,), False)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """A PyTorch tensor as an array: the element at i is the storage's at offset + i · stride."""
    size, stride, (offset,) = _sizes(size), _sizes(stride), _sizes((offset,))
    if not isinstance(storage, np.ndarray) or len(size) != len(stride) or math.prod(size) > len(storage):
        raise Refused("it has a tensor of a damaged shape")
    place = np.full(size, offset)
    for axis, step in enumerate(stride):
        place += step * np.arange(size[axis]).reshape(
            [-1 if axis == other else 1 for other in range(len(size))]
        )
    return storage[place]


def _scalar(dtype: Any, data: Any) -> Any:
    return _shaped(data, dtype, (1,), False)[0]


def _encoded(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refused("it encodes text in an unusual way")
    return text.encode("latin-1")


ARRAY_NAME, WRAPPER_NAME = Name("numpy", "ndarray"), Name("joblib.numpy_pickle", "NumpyArrayWrapper")
DTYPE_NAME = Name("numpy", "dtype")

CALLS: dict[Name, Callable[..., Any]] = {
    DTYPE_NAME: _type_of_numbers,
    WRAPPER_NAME: lambda *_: Unfinished(WRAPPER_NAME),
    Name("collections", "OrderedDict"): lambda: {},
    Name("_codecs", "encode"): _encoded,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch.storage", "_load_from_bytes"): _storage,
}
for _package in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    CALLS[Name(f"{_package}.multiarray", "_reconstruct")] = lambda *_: Unfinished(ARRAY_NAME)
    CALLS[Name(f"{_package}.multiarray", "scalar")] = _scalar
    CALLS[Name(f"{_package}.numeric", "_frombuffer")] = lambda data, dtype, shape, order: _shaped(
        data, dtype, shape, order == "F"
    )

FINISH: dict[Name, Callable[[_Machine, Unfinished, Any], Any]] = {
    DTYPE_NAME: _ordered,
    ARRAY_NAME: _array_state,
    WRAPPER_NAME: _wrapped,
}

STORAGES = {
    Name("torch", "DoubleStorage"): "<f8",
    Name("torch", "FloatStorage"): "<f4",
    Name("torch", "HalfStorage"): "<f2",
    Name("torch", "LongStorage"): "<i8",
    Name("torch", "IntStorage"): "<i4",
}
MENTIONED = {ARRAY_NAME}  # named, but never called
