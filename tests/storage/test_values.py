"""What storage promises beyond a round trip: what is refused, what reaches the disk, what generators continue with."""

from __future__ import annotations

import fcntl
import io
import os
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowrl.contracts.errors import CheckpointError
from flowrl.storage import checkpoint, files, integrity, rng_state

CONTENT: dict[str, Any] = {"config": {}, "progress": {}, "actor": {"weight": torch.arange(6.0)}}


def sealed(data: bytearray) -> bytes:
    """The bytes of a zip with a checksum of flowrl."""
    file = io.BytesIO(bytes(data))
    integrity.append_checksum(file)
    return file.getvalue()


def archive() -> bytearray:
    file = io.BytesIO()
    torch.save({**CONTENT, "format": checkpoint.FORMAT, "flowrl": "0"}, file)
    return bytearray(file.getvalue())


def directory(data: bytearray) -> list[int]:
    """Where the central directory's entries begin."""
    places, place = [], data.find(b"PK\x01\x02")
    while place >= 0:
        places.append(place)
        place = data.find(b"PK\x01\x02", place + 4)
    return places


def test_encrypted_members_are_refused() -> None:
    data = archive()
    entry = directory(data)[0]
    (flags,) = struct.unpack_from("<H", data, entry + 8)
    struct.pack_into("<H", data, entry + 8, flags | 1)
    with pytest.raises(ValueError, match="compressed or encrypted"):
        integrity.verify(sealed(data))


def test_overlapping_members_are_refused() -> None:
    """Thousands of names for the same bytes would unpack to gigabytes: a zip bomb without compression."""
    stored = zipfile.ZipInfo("archive/data/0")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as new:
        new.writestr(stored, bytes(5000))
        for number in range(1, 40):  # further entries of the directory that point at the first one's bytes
            member = zipfile.ZipInfo(f"archive/data/{number}")
            member.header_offset, member.CRC = 0, new.infolist()[0].CRC
            member.compress_size = member.file_size = 5000
            new.filelist.append(member)
            new.NameToInfo[member.filename] = member
    with pytest.raises(ValueError, match="overlap"):
        integrity.verify(sealed(bytearray(file.getvalue())))


@pytest.mark.parametrize("form", [-1, 0, checkpoint.FORMAT + 1])
def test_another_format_is_refused_older_or_newer(tmp_path: Path, form: int) -> None:
    file = io.BytesIO()
    torch.save({**CONTENT, "format": form, "flowrl": "0.0.9"}, file)
    integrity.append_checksum(file)
    (tmp_path / "ckpt.pt").write_bytes(file.getvalue())
    with pytest.raises(CheckpointError, match=f"format {form}, of flowrl 0.0.9"):
        checkpoint.load(tmp_path / "ckpt.pt")


def test_a_temporary_file_that_was_removed_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may clean the folder between creation and lock; what is written then must have a name."""
    lock, made = fcntl.flock, list[Path]()

    def flock(descriptor: int, operation: int) -> None:
        if not made:
            made.extend(tmp_path.iterdir())
            made[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.temporary(tmp_path / "file.pt") as part:
        assert part.exists() and part != made[0]


def test_the_file_is_on_the_disk_before_its_name_and_the_name_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append("folder" if name == tmp_path else "file")
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    files.write_bytes(tmp_path / "file.pt", b"content")
    assert events == ["file", "rename", "folder"]
    events.clear()
    files.write_text(tmp_path / "text", "content")
    assert events == ["file", "rename", "folder"]


def test_permissions_of_the_old_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    files.write_bytes(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o640 and path.read_bytes() == b"new"


def test_the_second_of_a_pair_of_gaussian_numbers_is_continued_with() -> None:
    """NumPy's global generator makes two at a time and keeps one, which its state must hold."""
    np.random.seed(3)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002
    saved = rng_state.state()
    expected = np.random.standard_normal(3).tolist()  # noqa: NPY002
    np.random.standard_normal(5)  # noqa: NPY002
    rng_state.restore(saved)
    assert np.random.standard_normal(3).tolist() == expected  # noqa: NPY002


def test_the_global_generators_are_continued() -> None:
    saved = rng_state.state()
    expected = torch.randn(3), random.random(), np.random.random()  # noqa: NPY002
    torch.randn(3), random.random(), np.random.random()  # noqa: NPY002
    rng_state.restore(saved)
    found = torch.randn(3), random.random(), np.random.random()  # noqa: NPY002
    assert torch.equal(expected[0], found[0]) and expected[1:] == found[1:]
