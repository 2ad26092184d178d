"""The checksum of a torch file: SHA-256 of all its bytes, kept as the comment at the end of its zip archive.

The zip's own CRCs cover neither headers nor padding, and torch does not check even these. The checksum covers
every byte before it: one bit flipped, missing or added anywhere is found before any loader sees the file, and
`torch.load` still opens it. It reads `flowrl sha256 ` and 64 hex digits; `head -c -78 ckpt.pt | sha256sum`
gives the same. A checksum is no signature: anyone who forges a file can append one. Protection against forgeries are
the checks of the zip here, and that nothing but tensors and plain values is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from typing import BinaryIO

MARK = b"flowrl sha256 "
SIZE = len(MARK) + 64  # bytes
MOST_MEMBERS = 100_000  # a tensor each
MOST_PICKLE_BYTES = 2**26  # of everything but the tensors' numbers: a byte can become an object of 56

_MEMBER = re.compile(r"archive(/\.?[a-z0-9_]+)+(\.pkl)?")  # lower case: torch's reader finds names in any case
_FOREIGN = {  # beginnings of the files that are most often mistaken for checkpoints
    rb"version https://git-lfs": "it is a Git LFS pointer, not the file itself (`git lfs pull` fetches it)",
    rb"\s*<(!doctype|html|\?xml)": "it is a web page: the download was answered by a page, not by the file",
    rb".{6}\0\0\{": "it is a safetensors file, which holds weights alone",
    rb"\x80[\x01-\x05]|.{257}ustar": "it is a bare pickle, which could run any code: flowrl never opens one",
    rb"(?!PK\x03\x04)": "it is not a torch file",
}


def append_checksum(file: io.BytesIO) -> None:
    """Append the checksum to the torch file in `file`, as the comment of its zip, which `torch.save` leaves empty."""
    file.seek(-2, io.SEEK_END)  # the last field of a zip: the length of its comment, 0
    file.write(SIZE.to_bytes(2, "little"))
    file.write(MARK + hashlib.sha256(file.getbuffer()).hexdigest().encode())


def verify(data: bytes) -> str:
    """Verify the torch file `data` and return its checksum (sha256, hex); raises ValueError with what is wrong."""
    check_ends(io.BytesIO(data))
    expected = hashlib.sha256(memoryview(data)[:-SIZE]).hexdigest()
    if data[-64:] != expected.encode():
        raise ValueError("it is damaged: its bytes do not match its checksum (sha256)")
    _check_zip(data)
    return expected


def check_ends(file: BinaryIO) -> None:
    """Raise ValueError when the beginning or the end of `file` is not that of a torch file with a checksum.

    Little of the file is read, so that a large foreign one is refused at once.
    """
    size = file.seek(0, io.SEEK_END)
    if not size:
        raise ValueError("it is empty")
    file.seek(0)
    head = file.read(512)
    for beginning, reason in _FOREIGN.items():
        if re.match(beginning, head, re.DOTALL | re.IGNORECASE):
            raise ValueError(reason)
    file.seek(max(0, size - (1 << 16)))
    tail = file.read()
    if tail[-SIZE:-64] != MARK:
        foreign = MARK not in tail and zipfile.is_zipfile(file)
        raise ValueError(
            "it has no checksum of flowrl: another program wrote it"
            if foreign
            else "it is cut short, or something was added at its end"
        )


def _check_zip(data: bytes) -> None:
    """Raise ValueError for what torch reads but never writes: compressed, hidden, doubled or overlapping members; and
    for more values than a checkpoint has."""
    if data.count(b"PK\x01\x02") > MOST_MEMBERS:  # before zipfile makes an object of each
        raise ValueError(f"it has more than {MOST_MEMBERS:,} members")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
            raise ValueError("it has compressed or encrypted members, which torch does not write")
        if not all(_MEMBER.fullmatch(member.filename) for member in members):
            raise ValueError("it has members of a name that torch does not write")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it has two members of one name")
        if any(member.compress_size != member.file_size for member in members):
            raise ValueError("the sizes of its members contradict each other")
        if min((member.header_offset for member in members), default=0) > 0:
            raise ValueError("there are bytes before its first member")
        if sum(member.file_size for member in members) > len(data):
            raise ValueError("its members overlap")
        if any(member.file_size > MOST_PICKLE_BYTES for member in members if member.filename.endswith(".pkl")):
            raise ValueError(f"its values besides tensors take more than {MOST_PICKLE_BYTES // 2**20} MiB")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"its member {damaged} is damaged (CRC)")
