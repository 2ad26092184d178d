from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from flowrl.contracts.errors import StorageError, UsageError
from flowrl.contracts.regular_files import UnsuitableFile, read_bounded
from flowrl.storage.files import check_folder_name, remove_orphans, replacing, unwritable, write_text
from flowrl.storage.platform import in_words


def test_a_file_takes_the_place_of_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "table.csv"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), ZeroDivisionError()])
def test_a_failure_halfway_leaves_the_old_file_as_it_was(tmp_path: Path, failure: Exception) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")
    expected = StorageError if isinstance(failure, OSError) else ZeroDivisionError
    with pytest.raises(expected), replacing(path) as part:
        part.write_text("half of the n")
        raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_error_names_the_obstacle_and_the_option_to_change(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"it is a folder\. Choose another --csv\."):
        write_text(tmp_path, "text", "--csv")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"folder: Not a directory\. Choose another --out"):
        write_text(tmp_path / "file" / "folder" / "table.csv", "text")


def test_space_is_asked_for_only_where_it_is_missing(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"No space left on device\. Free some space, or choose another --out"),
        replacing(tmp_path / "table.csv"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_was_only_read_is_not_called_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "figure.png"):
        (tmp_path / "font.ttf").read_bytes()


def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch(mode=0o600)
    (tmp_path / "link.csv").symlink_to(tmp_path / "table.csv")
    write_text(tmp_path / "link.csv", "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "table.csv").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "table.csv").stat().st_mode) == 0o600


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2_500_000)
    (tmp_path / "link").symlink_to(path)
    assert read_bounded(path, 2_500_000) == read_bounded(tmp_path / "link", 10**12) == b"x" * 2_500_000
    with pytest.raises(UnsuitableFile, match=r"it is larger than 2\.5 MB, the most that is read"):
        read_bounded(path, 2_499_999)
    assert read_bounded(Path("/proc/self/status"), 10**6).startswith(b"Name:")  # whose size is given as 0
    with pytest.raises(UnsuitableFile, match="larger than 100 bytes"):
        read_bounded(Path("/proc/self/status"), 100)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, kind in {"pipe": "a pipe", "zero": "a device", "socket": "a socket", ".": "a folder"}.items():
            with pytest.raises(UnsuitableFile, match=f"it is {kind}, not a file"):
                read_bounded(tmp_path / name, 10**6)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "missing", 10**6)


def test_a_sparse_file_of_20_gb_takes_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(20 * 10**9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsuitableFile, match="larger than 4 GB"):
        read_bounded(tmp_path / "large", 4 * 10**9)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # kB


@pytest.mark.parametrize("name", ["../x", "a/b", "/x/y", "..", ".", "", "a\0b", "a\nb", "x/", "\u202ex"])
def test_the_name_of_a_folder_is_no_path(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected the name of one folder.*Type --name (x|a-b|x-y|run),"):
        check_folder_name(name, "--name")
    check_folder_name("läufer 2.1", "--name")


def test_the_name_of_a_file_may_be_bytes(tmp_path: Path) -> None:
    """As of TensorBoard's writer, when the run folder is removed during a training."""
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", os.fsencode(tmp_path / "gone" / "events"))
    message = str(unwritable(tmp_path / "run" / "events", error))
    assert message.startswith(f"{tmp_path}/run/events cannot be written: {tmp_path}/gone/events: No such file")


def test_a_pipe_named_like_a_temporary_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".x.pt.0a1b2c.tmp")
    (tmp_path / ".y.pt.0a1b2c.tmp").touch()
    assert remove_orphans(tmp_path, "*.pt") == [tmp_path / ".y.pt.0a1b2c.tmp"]
    assert (tmp_path / ".x.pt.0a1b2c.tmp").is_fifo()


def test_the_platform_in_a_file_is_printed_with_escapes() -> None:
    assert in_words({"torch": "2\x1b[2J"}) == r"PyTorch 2\x1b[2J"
