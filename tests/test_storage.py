from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flowrl.errors import StorageError
from flowrl.storage import replacing, write_text


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


def test_it_says_what_is_in_the_way_and_which_option_to_change(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"it is a folder\. Choose another --csv, or free some space"):
        write_text(tmp_path, "text", "--csv")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"folder: Not a directory\. Choose another --out"):
        write_text(tmp_path / "file" / "folder" / "table.csv", "text")
