"""--scratch: what has changed is written below one directory, and nothing outside it, whatever lies there already."""

import os
import stat
from pathlib import Path

import pytest
from tests.cpu.files.world import World, fingerprint

from rmaplab.cpu.files.changes import make, rename, unlink
from rmaplab.cpu.files.inode import Inode
from rmaplab.cpu.files.lookup import resolve
from rmaplab.cpu.files.open_file import put
from rmaplab.errors import UsageError


def made(world: World, path: bytes, mode: int, target: bytes | None = None) -> Inode:
    return make(world.tree.fs, world.view, resolve(world.view, path, follow=False), mode, "mknod", target=target)


@pytest.fixture
def world(tmp_path: Path) -> World:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "conf").write_bytes(b"old")
    (root / "etc" / "same").write_bytes(b"same")
    return World(root)


def test_what_has_changed_is_there_and_the_rest_is_not(world: World, tmp_path: Path) -> None:
    """Files of the root that were only read are not; a directory that was renamed is, with what was looked up in it."""
    world.write(b"/etc/conf", b"new and longer")
    world.read(b"/etc/same")
    made(world, b"/dir", stat.S_IFDIR | 0o2755)
    made(world, b"/dir/run", stat.S_IFREG | 0o4755)
    world.write(b"/dir/holes", b"x")
    world.write(b"/tmp/t", b"in memory")
    world.write(b"/gone", b"x")
    unlink(world.tree.fs, world.view, resolve(world.view, b"/gone"))
    made(world, b"/dir/in", stat.S_IFLNK, b"../etc/conf")
    done = world.tree.write_out(tmp_path / "scratch" / "made")
    scratch = tmp_path / "scratch" / "made"
    assert (scratch / "etc" / "conf").read_bytes() == b"new and longer"
    assert (scratch / "tmp" / "t").read_bytes() == b"in memory"
    assert stat.S_IMODE((scratch / "dir" / "run").stat().st_mode) == 0o755
    assert (scratch / "dir" / "in").read_bytes() == b"new and longer"
    assert (scratch / "etc" / "conf").stat().st_mtime_ns == resolve(world.view, b"/etc/conf").inode.mtime_ns  # type: ignore[union-attr]
    assert sorted(path.name for path in scratch.rglob("*")) == ["conf", "dir", "etc", "holes", "in", "run", "t", "tmp"]
    assert (done.written, done.left_out) == (7, ())
    world.close()


def test_a_renamed_file_of_the_root_is_written_with_its_bytes(world: World, tmp_path: Path) -> None:
    """Its new name is new."""
    rename(world.tree.fs, world.view, resolve(world.view, b"/etc/same"), resolve(world.view, b"/moved"))
    world.tree.write_out(tmp_path / "scratch")
    assert (tmp_path / "scratch" / "moved").read_bytes() == b"same"
    world.close()


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../up", b"a/../../../up", b".."])
def test_links_that_lead_out_are_left_out(target: bytes, world: World, tmp_path: Path) -> None:
    """And said."""
    made(world, b"/etc/link", stat.S_IFLNK, target)
    done = world.tree.write_out(tmp_path / "scratch")
    below = target == b".."  # of /etc: the top itself
    assert done.left_out == (() if below else (b"/etc/link",))
    assert os.path.lexists(tmp_path / "scratch" / "etc" / "link") is below
    world.close()


def test_special_files_are_left_out(world: World, tmp_path: Path) -> None:
    """Devices, FIFOs, sockets."""
    made(world, b"/fifo", stat.S_IFIFO | 0o600)
    made(world, b"/null", stat.S_IFCHR | 0o600)
    made(world, b"/socket", stat.S_IFSOCK | 0o600)
    done = world.tree.write_out(tmp_path / "scratch")
    assert done.left_out == (b"/fifo", b"/null", b"/socket")
    assert list((tmp_path / "scratch").iterdir()) == []
    world.close()


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_link_that_waits_in_the_scratch_directory_is_not_followed(what: str, world: World, tmp_path: Path) -> None:
    """A directory of that name is an error, a file of it is replaced."""
    scratch, outside = tmp_path / "scratch", tmp_path / "outside"
    scratch.mkdir()
    outside.mkdir()
    (outside / "conf").write_bytes(b"not to be changed")
    world.write(b"/etc/conf", b"evil")
    before = fingerprint(outside)
    if what == "directory":
        (scratch / "etc").symlink_to(outside)
        with pytest.raises(UsageError, match="give --scratch an empty directory"):
            world.tree.write_out(scratch)
    else:
        (scratch / "etc").mkdir()
        (scratch / "etc" / "conf").symlink_to(outside / "conf")
        world.tree.write_out(scratch)
        assert (scratch / "etc" / "conf").read_bytes() == b"evil"
        assert not (scratch / "etc" / "conf").is_symlink()
    assert fingerprint(outside) == before
    world.close()


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_in_the_way(kind: str, world: World, tmp_path: Path) -> None:
    """Is not opened, and the file is not written."""
    scratch = tmp_path / "scratch"
    (scratch / "etc").mkdir(parents=True)
    if kind == "fifo":
        os.mkfifo(scratch / "etc" / "conf")
    else:
        (scratch / "etc" / "conf").mkdir()
    world.write(b"/etc/conf", b"x")
    with pytest.raises(UsageError, match="give --scratch"):
        world.tree.write_out(scratch)
    world.close()


def test_twice_is_as_good_as_once(world: World, tmp_path: Path) -> None:
    """What a run before has left is replaced."""
    world.write(b"/etc/conf", b"first")
    world.tree.write_out(tmp_path / "scratch")
    world.write(b"/etc/conf", b"then!")
    world.tree.write_out(tmp_path / "scratch")
    assert (tmp_path / "scratch" / "etc" / "conf").read_bytes() == b"then!"
    assert [path.name for path in (tmp_path / "scratch" / "etc").iterdir()] == ["conf"]
    world.close()


def test_holes_stay_holes(world: World, tmp_path: Path) -> None:
    """A file of a terabyte, on a machine of 64 MB, is written as what it is."""
    file = world.open(b"/sparse", os.O_WRONLY | os.O_CREAT)
    file.pwrite(world.caller, b"end", 1 << 40)
    put(file)
    world.tree.write_out(tmp_path / "scratch")
    found = (tmp_path / "scratch" / "sparse").stat()
    assert (found.st_size, found.st_blocks * 512 < 4 << 20) == ((1 << 40) + 3, True)
    world.close()


def test_no_such_place(world: World, tmp_path: Path) -> None:
    """One line."""
    (tmp_path / "file").touch()
    for place in (str(tmp_path / "file"), str(tmp_path / "file" / "x"), "a\0b"):
        with pytest.raises(UsageError, match="give --scratch"):
            world.tree.write_out(place)
    world.close()
