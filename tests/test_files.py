"""Files that a user names: whole or not at all, or in place; one line where it cannot be."""

from pathlib import Path

import pytest

from rmaplab.errors import UsageError
from rmaplab.files import check_writable, write_text, write_whole


def test_a_file_appears_whole(tmp_path: Path) -> None:
    """What was there is replaced, and nothing else is left in the directory."""
    path = tmp_path / "a"
    path.write_text("before")
    write_text(path, "--output", "after")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a", "after")]


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def half(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError) as caught:
        write_whole(path, "--save", half)
    assert str(caught.value) == f"cannot write {path} (No space left on device): try another --save"
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a", "before")]


def test_in_place_keeps_what_the_file_is(tmp_path: Path) -> None:
    """A symbolic link stays one, and a directory is refused in a line."""
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "a")
    write_text(str(path), "--record", "text", in_place=True)
    assert path.is_symlink()
    assert (tmp_path / "a").read_text() == "text"
    with pytest.raises(UsageError, match=r"cannot be written \(Is a directory\): give another path to --record"):
        write_text(tmp_path, "--record", "text", in_place=True)


def test_before_any_work(tmp_path: Path) -> None:
    """None is the terminal; a directory is no file, and a file needs a directory."""
    check_writable(None)
    check_writable(tmp_path / "a")
    assert not list(tmp_path.iterdir())
    for path in (tmp_path, tmp_path / "no" / "a"):
        with pytest.raises(UsageError, match=f"cannot write {path}: give --save a file"):
            check_writable(path, "--save")
