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

MARK = b"flowrl sha256 "
SIZE = len(MARK) + 64  # bytes

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
    if not data:
        raise ValueError("it is empty")
    for beginning, reason in _FOREIGN.items():
        if re.match(beginning, data[:512], re.DOTALL | re.IGNORECASE):
            raise ValueError(reason)
    mark, digest = data[-SIZE:-64], data[-64:]
    if mark != MARK:
        foreign = MARK not in data[-(1 << 16) :] and zipfile.is_zipfile(io.BytesIO(data))
        raise ValueError(
            "it has no checksum of flowrl: another program wrote it"
            if foreign
            else "it is cut short, or something was added at its end"
        )
    expected = hashlib.sha256(memoryview(data)[:-SIZE]).hexdigest()
    if digest != expected.encode():
        raise ValueError("it is damaged: its bytes do not match its checksum (sha256)")
    _check_zip(data)
    return expected


def _check_zip(data: bytes) -> None:
    """Raise ValueError for what torch reads but never writes: compressed, hidden, doubled or overlapping members."""
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
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"its member {damaged} is damaged (CRC)")
