"""Pickles: arrays and plain data are read, and no code that a pickle names is run, however it asks for it."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import subprocess
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowrl.contracts.errors import UsageError
from flowrl.envs.humanoid.motions.importers import reader, safe_pickle

from . import sample_files
from .sample_files import written

# ------------------------------------------------------------------------------------- pickles that name code


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


MARK = "harm-was-done"
HARM = f"open({MARK!r}, 'w')"
MALICE: dict[str, bytes] = {
    "os.system": pickle.dumps(Call(os.system, f"touch {MARK}")),
    "subprocess": pickle.dumps(Call(subprocess.Popen, ["touch", MARK])),
    "eval": pickle.dumps({"walk": Call(eval, HARM)}),
    "exec": pickle.dumps([Call(exec, HARM)]),
    "in an array": pickle.dumps(np.array([Call(eval, HARM)], dtype=object)),
    "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
    "numpy.load": b"cnumpy\nload\n(S'x.npy'\ntR.",
    "numpy's runstring": b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.",
    "numpy's exec_command": b"cnumpy.distutils.exec_command\nexec_command\n(S'ls'\ntR.",
    "torch.load": b"ctorch\nload\n(S'x'\ntR.",
    "INST": b"(S'touch harm-was-done'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch harm-was-done'\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\n(S'touch harm-was-done'\nt\x81.",
    "NEWOBJ_EX": b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x12touch harm-was-don\x85R.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID": b"Psomething\n.",
    "a type of objects": b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR.",
    "ndarray called": b"cnumpy\nndarray\n(I9\ntR.",
    "a number called": b"I7\n(tR.",
    "state of a dict": b"}(S'__class__'\nI1\ndb.",
    "a storage of what is no bytes": b"ctorch.storage\n_load_from_bytes\n(I7\ntR.",
    "encode by a codec": b"c_codecs\nencode\n(Vx\nVzlib\ntR.",
    "a key that is a list": b"}(]I1\nu.",
    "a key that is a tuple": b"}(I1\ntI1\ns.",
    "a set": b"\x80\x04\x8f.",
    "a frozenset": b"\x80\x04(\x91.",
    "EXT2": b"\x80\x02\x83\x01\x00.",
    "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "copyreg": b"ccopyreg\n__newobj__\n(cbuiltins\nobject\ntR.",
    "copyreg's extensions": b"ccopyreg\nadd_extension\n(S'os'\nS'system'\nI1\ntR.",
    "BINPERSID": b"\x80\x02(X\x07\x00\x00\x00storageX\x03\x00\x00\x00<f4NNK\x01tQ.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "READONLY_BUFFER": b"\x80\x05N\x98.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.dump\x93.",
    "builtins.getattr of the table": b"cflowrl.envs.humanoid.motions.importers.safe_pickle\nCALLS\n.",
    "a function's attribute": b"c_codecs\nencode\nN}(S'__defaults__'\n(S'zlib'\ntu\x86b.",
    "a class's attribute": b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n}S'x'\nI1\nsb.",
    "NEWOBJ of a number": b"\x80\x02K\x01)\x81.",
    "a name that is a tuple": b"\x80\x04))\x93.",
    "a shape that is a list": b"cnumpy.core.numeric\n_frombuffer\n(B\x00\x00\x00\x00"
    b"cnumpy\ndtype\n(Vf8\ntR(I2\n]tVC\ntR.",
    "nothing on the stack": b"\x85.",
}


@pytest.mark.parametrize("data", MALICE.values(), ids=MALICE)
def test_a_malicious_pickle_is_refused(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for packed in (data, zlib.compress(data), pickle.dumps(np.zeros(3))[:-1] + data):
        with pytest.raises(UsageError) as caught:
            reader.read(written(packed, tmp_path / "evil.pkl"))
        assert "evil.pkl cannot be read as a motion: it" in str(caught.value)
    assert not (tmp_path / MARK).exists()


def test_the_refused_name_is_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it asks for (posix|nt)\.system, which is not plain data"):
        reader.read(written(MALICE["os.system"], tmp_path / "evil.pkl"))


def test_a_pickle_within_a_tensor_is_not_run_either(tmp_path: Path) -> None:
    data = pickle.dumps(Call(torch.storage._load_from_bytes, MALICE["os.system"]))
    with pytest.raises(UsageError, match=r"asks for (posix|nt)\.system"):
        reader.read(written(data, tmp_path / "evil.pkl"))


def test_a_tensor_does_not_reach_beyond_its_storage() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch's own pickles still use it
        storage = torch.arange(4.0).storage()
    for offset, size, stride in ((3, (2,), (1,)), (0, (2,), (5,)), (0, (9,), (0,)), (-1, (1,), (1,))):
        bad = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
        with pytest.raises(safe_pickle.Refused):
            safe_pickle.read(pickle.dumps(bad))


def test_plain_data_are_read_as_pickle_reads_them() -> None:
    data = {
        "numbers": [1, -2, 3.5, True, None, 2**70],
        "text": ("ä", b"\x00\xff", "x" * 300),
        "nested": {"a": [(), {}, [], (1, 2, 3, 4)]},
        7: np.float32(1.5),
        "array": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "word": np.array("neutral"),
        "flags": np.array([True, False]),
        "ordered": collections.OrderedDict(a=1, b=2),
    }
    for protocol in range(6):
        pickled = pickle.dumps(data, protocol=protocol)
        expected = pickle.loads(pickled)  # noqa: S301  written above
        found = safe_pickle.read(pickled)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, np.ndarray):
                assert found[key].dtype == value.dtype
                assert found[key].shape == value.shape
                assert (found[key] == value).all()
            else:
                assert found[key] == value
    twice = np.arange(3)
    first, second = safe_pickle.read(pickle.dumps([twice, twice]))
    assert first is second


def test_names_of_numpy_1_and_2_are_read() -> None:
    array = np.arange(4.0)
    for protocol in (2, 5):
        new = pickle.dumps(array, protocol=protocol)
        old = new.replace(b"numpy._core", b"numpy.core") if protocol == 2 else new
        assert (safe_pickle.read(old) == array).all()
        assert protocol == 5 or new != old


def test_bytes_that_are_in_the_file_once_cannot_fill_many_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of nearly half a MiB, asked for as two arrays and as three."""
    monkeypatch.setattr(safe_pickle, "MOST_BYTES", 2**20)
    size = 2**19 - 2**14  # the rest is for the instructions
    data = b"\0" * size
    make = (
        b"cnumpy._core.numeric\n_frombuffer\n(h\x00cnumpy\ndtype\n(X\x02\x00\x00\x00u1\x89\x88tR"
        b"(J\x00\xc0\x07\x00tX\x01\x00\x00\x00CtR"
    )
    twice, thrice = (
        b"\x80\x03B" + len(data).to_bytes(4, "little") + data + b"q\x00(" + make * count + b"l." for count in (2, 3)
    )
    assert [len(array) for array in safe_pickle.read(twice)] == [size] * 2
    with pytest.raises(safe_pickle.Refused, match="more than 1 MiB"):
        safe_pickle.read(thrice)


def binary(data: bytes) -> bytes:
    """The instruction that pushes `data`."""
    return b"B" + len(data).to_bytes(4, "little") + data


ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
FLOATS = b"cnumpy\ndtype\n(S'f8'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
BUFFER = b"cnumpy._core.numeric\n_frombuffer\n"


def state(shape: bytes, data: bytes, dtype: bytes = FLOATS) -> bytes:
    """An array by its state: version, shape, type of numbers, order and bytes."""
    return ARRAY + b"(I1\n" + shape + dtype + b"I00\n" + data + b"tb."


def test_a_state_is_read_as_numpy_writes_it() -> None:
    assert (safe_pickle.read(state(b"(I1\nI1\nt", binary(np.float64(3).tobytes()))) == [[3.0]]).all()


LIES: dict[str, bytes] = {
    "more elements than bytes": state(b"(I1000000\nt", binary(bytes(8))),
    "fewer elements than bytes": state(b"(I1\nt", binary(bytes(16))),
    "a negative size": state(b"(I-1\nI-1\nt", binary(bytes(8))),
    "sizes whose product is 2**64": state(b"(I65536\nI65536\nI65536\nI65536\nt", binary(b"")),
    "a size of many digits": state(b"(" + b"\x8b\x00\x00\x10\x00" + b"\x7f" * 2**20 + b"t", binary(bytes(8))),
    "more axes than are admitted": state(b"(" + b"I1\n" * 33 + b"t", binary(bytes(8))),
    "a shape that is a number": state(b"I1\n", binary(bytes(8))),
    "a type of no bytes": state(b"(I9\nt", binary(b""), b"cnumpy\ndtype\n(S'S0'\ntR"),
    "a type of objects": state(b"(I1\nt", b"(NI1\nl", b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR"),
    "a type of structures": state(b"(I1\nt", binary(bytes(8)), b"cnumpy\ndtype\n(S'V8'\nI00\nI01\ntR"),
    "a type by a list": state(b"(I1\nt", binary(bytes(8)), b"cnumpy\ndtype\n(((S'a'\nS'O'\ntltR"),
    "a type that is text": state(b"(I1\nt", binary(bytes(8)), b"S'f8'\n"),
    "a list of objects as bytes": state(b"(I1\nt", b"(Nl"),
    "bytes that are an array": state(b"(I1\nt", state(b"(I1\nt", binary(bytes(8)))[:-1]),
    "a byte order of two letters": b"cnumpy\ndtype\n(S'f8'\nI00\nI01\ntR(I3\nS'<>'\ntb.",
    "a byte order that is a dict": b"cnumpy\ndtype\n(S'f8'\nI00\nI01\ntR(I3\n}tb.",
    "fields of a type": b"cnumpy\ndtype\n(S'f8'\ntR(I3\nS'x'\nN(S'a'\nt}NI99\nI1\nI0\ntb.",
    "a buffer that is too short": BUFFER + b"(" + binary(bytes(8)) + FLOATS + b"(I2\ntS'C'\ntR.",
    "a buffer of unknown length": BUFFER + b"(" + binary(bytes(8)) + FLOATS + b"(I-1\ntS'C'\ntR.",
    "a number of objects": b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntR" + binary(b"I1\n.") + b"tR.",
    "a number that is too short": b"cnumpy._core.multiarray\nscalar\n(" + FLOATS + binary(b"1234") + b"tR.",
    "a class to reconstruct that is called": b"cnumpy\nndarray\n(I1000000000\nttR.",
    "an ordered dict with items": b"ccollections\nOrderedDict\n(((I1\nI2\ntltR.",
    "arguments that are an array": BUFFER + state(b"(I1\nt", binary(bytes(8)))[:-1] + b"R.",
    "a state that is an array": ARRAY + state(b"(I1\nt", binary(bytes(8)))[:-1] + b"b.",
    "arguments of NEWOBJ that are an array": b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n" + ARRAY + b"\x81.",
    "a long key": b"}" + b"X\x00\x00\x10\x00" + b"x" * 2**20 + b"Ns.",
    "a key of many digits": b"}\x8b\x09\x00\x00\x00" + b"\x7f" * 9 + b"Ns.",
    "a state of a joblib array that is a list": b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81]b.",
    "a reference in a tensor's place": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(I1\nI0\n(I1\nt(I1\nttR.",
}
"""Pickles of admitted names and instructions whose arguments do not fit one another."""


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_arguments_are_checked_before_numpy_reads_them(data: bytes) -> None:
    with pytest.raises(safe_pickle.Refused, match=r"^it "):
        safe_pickle.read(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (MALICE["encode by a codec"], "encodes text in an unusual way"),
        (MALICE["BINPERSID"], "refers to data outside the file"),
        (MALICE["EXT1"], "an instruction that neither arrays nor plain data need"),
        (LIES["a state that is an array"], "an object of a damaged state"),
        (LIES["arguments that are an array"], "calls something that does not make an array"),
        (LIES["arguments of NEWOBJ that are an array"], "calls something that does not make an array"),
        (LIES["a byte order of two letters"], "a damaged byte order"),
        (LIES["a type that is text"], "a damaged type or size"),
    ],
)
def test_the_guard_that_refuses_is_the_one_meant(data: bytes, reason: str) -> None:
    with pytest.raises(safe_pickle.Refused, match=reason):
        safe_pickle.read(data)


def peak(data: bytes) -> int:
    """The bytes that are reserved at most while `data` are refused."""
    tracemalloc.start()
    try:
        with pytest.raises(safe_pickle.Refused):
            safe_pickle.read(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HUGE = (2**40).to_bytes(8, "little")
SHORT: dict[str, bytes] = {
    "BINBYTES8": b"\x80\x04\x8e" + HUGE + b"x",
    "BYTEARRAY8": b"\x80\x05\x96" + HUGE + b"x",
    "BINUNICODE8": b"\x80\x04\x8d" + HUGE + b"x",
    "FRAME": b"\x80\x04\x95" + HUGE + b"N",
    "LONG4": b"\x80\x02\x8b\xff\xff\xff\x7fx",
    "LONG_BINPUT": b"\x80\x02Nr\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", SHORT.values(), ids=SHORT)
def test_a_declared_size_reserves_no_memory(data: bytes) -> None:
    assert peak(data) < 2**20


def test_a_joblib_array_reserves_no_memory() -> None:
    """joblib's description of 8 GB, of which 8 bytes follow."""
    complete = sample_files.joblib(np.arange(3.0))
    assert (safe_pickle.read(complete) == np.arange(3.0)).all()
    data = complete.replace(b"K\x03\x85", b"J\x00\x00\x00\x20\x85")  # the shape (3,) as (2**29,)
    assert data != complete
    assert peak(data) < 2**20


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_joblib_files_of_every_protocol(protocol: int) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": [np.arange(3), "text"], "c": 1}
    found = safe_pickle.read(sample_files.joblib(arrays, protocol))
    assert found.keys() == arrays.keys()
    assert (found["a"] == arrays["a"]).all()
    assert (found["b"][0] == np.arange(3)).all()
    assert (found["b"][1], found["c"]) == ("text", 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"]" * n,  # a list of 56 bytes for every byte of the file
        lambda n: b"(" * n,
        lambda n: b"\x80\x04" + b"}\x94" * n,
        lambda n: b"\x80\x05" + b"\x96\0\0\0\0\0\0\0\0" * n,
        lambda n: b"cnumpy\ndtype\nq\0" + b"h\0(S'f8'\ntR" * n,
        lambda n: ARRAY[:-1] + b"q\1R" + b"cnumpy._core.multiarray\n_reconstruct\n)R" * n,
        lambda n: b"(" + b"N" * n + b"l.",
    ],
    ids=["lists", "marks", "memorised dicts", "byte arrays", "types", "arrays", "items"],
)
def test_objects_count_as_memory(make: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MOST_BYTES", 2**22)
    data = make(2**19)  # half a million instructions, of which 16,384 are admitted
    assert peak(data) < 2**22 + 2 * len(data)
    with pytest.raises(safe_pickle.Refused, match="its data take more than 4 MiB"):
        safe_pickle.read(data)


def test_numbers_and_encoded_text_count_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MOST_BYTES", 2**22)
    word = b"cnumpy._core.multiarray\nscalar\nq\0(cnumpy\ndtype\n(S'S9999'\ntRq\1" + binary(b"x" * 9999) + b"q\2tR"
    text = b"c_codecs\nencode\nq\0(X\xa0\x86\x01\0" + b"x" * 100_000 + b"q\1X\x06\0\0\0latin1q\2tR"
    for once, again in ((word, b"h\0(h\1h\2tR"), (text, b"h\0(h\1h\2tR")):
        safe_pickle.read(once + again * 20 + b".")
        with pytest.raises(safe_pickle.Refused, match="its data take more than 4 MiB"):
            safe_pickle.read(once + again * 1000 + b".")


@pytest.mark.parametrize(
    "data",
    [
        b"(" * 100_000 + b"t" * 100_000 + b".",
        b"]" * 100_000 + b"a" * 99_999 + b".",
        b"}" + b"I1\n}" * 100_000 + b"s" * 100_000 + b".",
    ],
    ids=["tuples", "lists", "dicts"],
)
def test_nesting_a_hundred_thousand_deep_is_no_recursion(data: bytes) -> None:
    nested, depth = safe_pickle.read(data), 1
    while nested:
        (nested,) = nested.values() if isinstance(nested, dict) else nested
        depth += 1
    assert depth >= 100_000


def test_no_key_takes_forever_to_hash() -> None:
    """A pair of a pair of …, 200 deep: Python's hash of it takes 2**200 steps."""
    start = time.monotonic()
    with pytest.raises(safe_pickle.Refused, match="a key that is neither"):
        safe_pickle.read(b"}" + b")" + b"q\0h\0\x86" * 200 + b"Ns.")
    assert time.monotonic() - start < 1


def test_storages_within_storages_are_refused() -> None:
    data = pickle.dumps(np.zeros(1))
    for _ in range(50):
        data = pickle.dumps(Call(torch.storage._load_from_bytes, data))
    with pytest.raises(safe_pickle.Refused, match=r"asks for torch\.storage\._load_from_bytes"):
        safe_pickle.read(data)


def storage(code: bytes = b"ctorch\nFloatStorage\n", size: int = 2, data: bytes = bytes(8)) -> bytes:
    """A PyTorch storage as `torch.save` wrote it before it wrote zip archives."""
    parts = [pickle.dumps(part, protocol=2) for part in (safe_pickle.TORCH_MAGIC, 1001, {"little_endian": True})]
    reference = b"\x80\x02(U\x07storage" + code + b"U\x010U\x03cpuI" + str(size).encode() + b"\nNtQ."
    return b"".join([*parts, reference, pickle.dumps(["0"], protocol=2), struct.pack("<q", size), data])


def loaded(data: bytes) -> Any:
    return safe_pickle.read(pickle.dumps(Call(torch.storage._load_from_bytes, data)))


def test_a_storage_is_checked() -> None:
    assert (loaded(storage()) == [0.0, 0.0]).all()
    bad = {
        "a size without data": storage(size=3),
        "a negative size": storage(size=-1),
        "a size beyond a file": storage(size=2**40),
        "text as its type": storage(code=b"U\x01O"),
        "numpy's names": storage(code=b"cnumpy\ndtype\n"),
        "a state of a type": storage(code=b"ctorch\nFloatStorage\n(I3\nU\x01>tb"),
        "another magic": storage().replace(b"\x6c\xfc\x9c\x46", b"\x6c\xfc\x9c\x47"),
        "cut": storage()[:-1],
    }
    for data in bad.values():
        with pytest.raises(safe_pickle.Refused):
            loaded(data)
    with pytest.raises(safe_pickle.Refused, match="refers to data outside the file"):
        loaded(bad["text as its type"])
    with pytest.raises(safe_pickle.Refused, match="a tensor without numbers"):  # a bytearray is copied when it is read
        safe_pickle.read(pickle.dumps(Call(torch.storage._load_from_bytes, bytearray(storage())), protocol=5))


def test_instructions_within_storages_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MOST_BYTES", 2**20)
    call = b"ctorch.storage\n_load_from_bytes\nq\0(" + binary(storage(size=0, data=b"")) + b"q\1tR"
    safe_pickle.read(call + b".")
    with pytest.raises(safe_pickle.Refused, match="more than 1 MiB"):
        safe_pickle.read(call + b"h\0(h\1tR" * 500 + b".")


def test_numpy_itself_is_left_as_it_was() -> None:
    """A state with another byte order, set on types of every source, changes no type of NumPy's."""
    for code in ("f8", "i4", "U3", "S2", "b1"):
        pickled = b"cnumpy\ndtype\n(S'" + code.encode() + b"'\ntR(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb."
        before = np.dtype(code).str
        safe_pickle.read(pickled)
        assert np.dtype(code).str == before
    assert safe_pickle.read(b"cnumpy\ndtype\n(S'f8'\ntR(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb.") == np.dtype(">f8")


def test_a_pickle_that_is_cut_anywhere_is_refused() -> None:
    for protocol in (0, 2, 5):
        data = pickle.dumps({"walk": {"fps": 30, "array": np.arange(4.0)}}, protocol=protocol)
        for end in range(len(data)):
            with pytest.raises(safe_pickle.Refused):
                safe_pickle.read(data[:end])


def test_bytes_at_random_are_refused_or_plain_data() -> None:
    """Random instructions around an array, among them names, calls and states: never another exception."""
    random = np.random.default_rng(0)
    pieces = [ARRAY, FLOATS, BUFFER, b"(", b"t", b"R", b"b", b"\x81", b"}", b"]", b"u", b"s", b"a", b"e", b"d", b"l"]
    pieces += [b"q\0", b"h\0", b"2", b"0", b"1", b"\x85", b"\x86", b"N", b"I7\n", binary(bytes(8)), b"Q", b"\x93"]
    pieces += [b"cnumpy\ndtype\n", b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n", b"S'f8'\n", b"I1\nt", b"."]
    read = 0
    for _ in range(5000):
        picks = random.integers(len(pieces), size=int(random.integers(1, 30)))
        try:
            safe_pickle.read(b"".join(pieces[pick] for pick in picks) + b".")
            read += 1
        except safe_pickle.Refused:
            pass
    assert read > 50
