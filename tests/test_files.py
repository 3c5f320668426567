"""Files that a user names: nothing that is there comes to harm, and what cannot be written is one line.

a file        whole or not at all; its mode and owner stay          a link      leads where it led
a device      stays one                                              a pipe      is written to
"""

import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rmaplab.errors import UsageError
from rmaplab.files import check_writable, write_text, write_whole


def everything(directory: Path) -> list[tuple[str, str]]:
    return sorted((each.name, each.read_text()) for each in directory.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    """What was there is replaced, and nothing else is left in the directory; whose FILE.part is there keeps it."""
    path = tmp_path / "a"
    path.write_text("before")
    (tmp_path / "a.part").write_text("somebody's")
    write_text(path, "--output", "after")
    assert everything(tmp_path) == [("a", "after"), ("a.part", "somebody's")]


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def half(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError) as caught:
        write_whole(path, "--save", half)
    assert str(caught.value) == f"cannot write {path} (No space left on device): try another --save"
    assert everything(tmp_path) == [("a", "before")]


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", "--save", interrupted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o4750])
def test_the_mode_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    path.chmod(mode)
    write_text(path, "--output", "after")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    """Less the umask, as any file."""
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "open", "--output", lambda part: part.write_text(""))
        write_whole(tmp_path / "secret", "--save", lambda part: part.write_text(""), mode=0o600)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("open", "secret")] == [0o640, 0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    os.chown(path, 1234, 1234)
    write_text(path, "--output", "after")
    assert (path.stat().st_uid, path.stat().st_gid, path.read_text()) == (1234, 1234, "after")


def test_a_link_leads_where_it_led(tmp_path: Path) -> None:
    """Whether or not there is something; and in a circle is one line."""
    link, chain = tmp_path / "link", tmp_path / "chain"
    link.symlink_to(tmp_path / "a")
    chain.symlink_to(link)
    for text in ("new", "again"):
        write_text(chain, "--record", text)
        assert link.is_symlink()
        assert chain.is_symlink()
        assert (tmp_path / "a").read_text() == text
    link.unlink()
    link.symlink_to(chain)
    attempts: tuple[Callable[[], None], ...] = (
        lambda: write_text(link, "--record", "text"),
        lambda: check_writable(link, "--record"),
    )
    for refused in attempts:
        with pytest.raises(UsageError, match="--record"):
            refused()


def test_an_older_one_is_kept(tmp_path: Path) -> None:
    """As NAME.old; the one before that is gone."""
    for text in ("first", "second", "third"):
        write_text(tmp_path / "a", "--record", text, keep_old=True)
    assert everything(tmp_path) == [("a", "third"), ("a.old", "second")]


def test_a_pipe_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    check_writable(path)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    write_text(path, "--output", "through it" * 9999)
    reader.join(10)
    assert read == ["through it" * 9999]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_stays_one() -> None:
    """A full one is one line."""
    write_text("/dev/null", "--output", "text")
    check_writable("/dev/full")
    with pytest.raises(UsageError, match=r"cannot write /dev/full \(No space left on device\)"):
        write_text("/dev/full", "--output", "text")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output(
    tmp_path: Path, name: str, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no file called -."""
    monkeypatch.chdir(tmp_path)
    check_writable(name)
    sys.stdout.write("before ")
    write_text(name, "--output", "wärme")
    write_whole(name, "--save", lambda part: part.write_bytes(b"\xff\x00"))
    assert capfdbinary.readouterr().out == "before wärme".encode() + b"\xff\x00"
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_directory_that_is_not_ours_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere: so it is told that it may not."""
    path = tmp_path / "a"
    path.write_text("before")
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)
    check_writable(path)
    write_text(path, "--output", "after")
    assert everything(tmp_path) == [("a", "after")]
    assert path.stat().st_ino == inode


def test_before_any_work(tmp_path: Path) -> None:
    """None is the terminal; a directory is no file, and a file needs a directory."""
    check_writable(None)
    check_writable(tmp_path / "a")
    assert not list(tmp_path.iterdir())
    for path in (tmp_path, tmp_path / "no" / "a"):
        with pytest.raises(UsageError, match=f"cannot write {path}: give --save a file"):
            check_writable(path, "--save")
