from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from flowrl.contracts.errors import StorageError
from flowrl.storage.files import replacing, write_text


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
