"""Regular files: bytes in the page cache of the simulated kernel, the same to read, write and mappings; the host's are never changed."""

import errno
import os
import random
from pathlib import Path

import pytest
from tests.cpu.files.world import BOTH, READ, WRITE, World, errno_of, fingerprint

from rmaplab.cpu.files.changes import unlink
from rmaplab.cpu.files.host_root import MOST_OPEN
from rmaplab.cpu.files.lookup import resolve
from rmaplab.cpu.files.open_file import O_APPEND, O_TMPFILE, OpenFile, put
from rmaplab.cpu.files.regular import OpenRegular
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "6.18")


def remove(world: World, path: bytes) -> None:
    unlink(world.tree.fs, world.view, resolve(world.view, path))


def nr_inodes(world: World) -> int:
    return len(world.system.kernel.page_cache.files)


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_has_the_bytes_that_a_file_of_the_host_would_have(kernel: str, tmp_path: Path) -> None:
    """Random reads, writes, truncations and appends, at any offset, on a file of the root and on tmpfs."""
    root, real = tmp_path / "root", tmp_path / "real"
    root.mkdir()
    start = random.Random(0).randbytes(3 * PAGE_SIZE + 100)
    (root / "file").write_bytes(start)
    same = fingerprint(root)
    world, rng = World(root, kernel=kernel), random.Random(kernel)
    world.write(b"/tmp/file", start)
    for path in (b"/file", b"/tmp/file"):
        real.write_bytes(start)
        for append in (0, O_APPEND):
            file = world.open(path, BOTH | append)
            fd = os.open(real, BOTH | append)
            for _ in range(60):
                at, length = rng.randrange(6 * PAGE_SIZE), rng.choice([0, 1, 100, PAGE_SIZE, 2 * PAGE_SIZE + 1])
                data = rng.randbytes(length)
                what = rng.randrange(6)
                if what == 0:
                    assert file.pwrite(world.caller, data, at) == os.pwrite(fd, data, at)
                elif what == 1:
                    assert file.pread(world.caller, length, at) == os.pread(fd, length, at)
                elif what == 2:
                    assert file.write(world.caller, data) == os.write(fd, data)
                elif what == 3:
                    assert file.read(world.caller, length) == os.read(fd, length)
                elif what == 4:
                    whence = rng.randrange(3)
                    assert file.seek(at, whence) == os.lseek(fd, at, whence)
                else:
                    file.truncate(world.caller, at)
                    os.ftruncate(fd, at)
                assert file.stat().size == os.fstat(fd).st_size
            put(file)
            os.close(fd)
        assert world.read(path) == real.read_bytes()
    assert fingerprint(root) == same
    world.close()


def test_a_mapping_shows_what_is_written_and_read_shows_the_mapping(tmp_path: Path) -> None:
    """A program's text is the file's page."""
    (tmp_path / "file").write_bytes(b"of the host".ljust(PAGE_SIZE))
    world = World(tmp_path)
    task = world.system.spawn()
    file = world.open(b"/file", BOTH)
    at = task.mmap_opened(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, file.mappable(), 0)
    copy = task.mmap_opened(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, file.mappable(), 0)
    assert task.read(at, 6) == b"of the"
    file.pwrite(world.caller, b"ON", 0)
    task.write(at + 3, b"THE")
    task.write(copy + 7, b"!!!!")
    assert file.pread(world.caller, 11, 0) == b"ON THE host"
    assert task.read(copy, 11) == b"ON THE !!!!"
    assert {mapping.address for mapping in world.system.who_maps(file.mappable().mapping, 0)} == {at}
    put(file)
    assert task.read(at, 6) == b"ON THE"
    task.exit()
    assert (tmp_path / "file").read_bytes().startswith(b"of the host")
    world.close()


@pytest.mark.parametrize("path", [b"/file", b"/tmp/file"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_file_without_a_name_goes_with_its_last_user(kernel: str, path: bytes, tmp_path: Path) -> None:
    """Descriptors and mappings keep it."""
    world = World(tmp_path, kernel=kernel)
    task = world.system.spawn()
    before = nr_inodes(world)
    world.write(path, b"x" * PAGE_SIZE)
    file = world.open(path, BOTH)
    at = task.mmap_opened(PAGE_SIZE, PROT_READ, MAP_SHARED, 0, file.mappable(), 0)
    remove(world, path)
    assert file.stat().nlink == 0
    assert file.pread(world.caller, 1, 0) == b"x"
    put(file)
    assert nr_inodes(world) == before + 1
    assert task.read(at, 1) == b"x"
    task.munmap(at, PAGE_SIZE)
    world.write(path, b"another")  # and somebody closes a file
    remove(world, path)
    assert nr_inodes(world) == before
    task.exit()
    world.close()


def test_a_file_that_never_had_a_name(tmp_path: Path) -> None:
    """O_TMPFILE."""
    world = World(tmp_path)
    before = nr_inodes(world)
    file = world.open(b"/tmp", O_TMPFILE | BOTH)
    assert (file.write(world.caller, b"abc"), file.stat().nlink) == (3, 0)
    put(file)
    assert nr_inodes(world) == before
    assert errno_of(lambda: world.open(b"/tmp", O_TMPFILE | READ)) == errno.EINVAL
    world.close()


@pytest.mark.parametrize("kernel", ["2.6.2", "2.4.21"])
def test_files_that_go_while_the_disk_has_them(kernel: str, tmp_path: Path) -> None:
    """More is written than RAM has, and unlinked on its way to the disk: what is written then is right."""
    for i in range(4):
        (tmp_path / f"big{i}").write_bytes(bytes([i + 1]) * (1 << 18))
    world = World(tmp_path, kernel=kernel, small=True)
    for nr in range(24):
        world.write(b"/new%d" % nr, bytes([nr]) * (1 << 18))
        file = world.open(b"/big%d" % (nr % 4))
        assert file.pread(world.caller, 100, 200_000) == bytes([nr % 4 + 1]) * 100
        if nr % 3 == 1:
            remove(world, b"/new%d" % nr)
        put(file)
    for nr in range(24):
        if nr % 3 != 1:
            file = world.open(b"/new%d" % nr)
            assert file.pread(world.caller, 1 << 18, 0) == bytes([nr]) * (1 << 18)
            put(file)
            remove(world, b"/new%d" % nr)
    world.close()


def test_what_cannot_be_read_on_the_host(tmp_path: Path) -> None:
    """EACCES, and the tree goes on."""
    if os.getuid() == 0:
        pytest.skip("root reads everything")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0)
    world = World(tmp_path)
    assert errno_of(lambda: world.open(b"/file")) == errno.EACCES
    assert resolve(world.view, b"/file").inode is not None
    world.close()


def test_a_file_that_the_host_changes_meanwhile(tmp_path: Path) -> None:
    """Another one of that name is not shown, and one that was cut ends in zeros."""
    (tmp_path / "cut").write_bytes(b"x" * 2 * PAGE_SIZE)
    (tmp_path / "other").write_bytes(b"y" * PAGE_SIZE)
    world = World(tmp_path)
    for name in (b"/cut", b"/other"):
        assert resolve(world.view, name).inode is not None
    os.truncate(tmp_path / "cut", 10)
    (tmp_path / "third").write_bytes(b"z" * PAGE_SIZE)
    (tmp_path / "third").replace(tmp_path / "other")
    file = world.open(b"/cut")
    assert file.pread(world.caller, 20, 0) == b"x" * 10 + bytes(10)
    put(file)
    assert errno_of(lambda: world.open(b"/other")) == errno.ESTALE
    world.close()


def test_a_file_that_the_host_replaces_while_it_is_open(tmp_path: Path) -> None:
    """What was read stays; nothing of the other one is shown, once the first is not open on the host any more."""
    (tmp_path / "file").write_bytes(b"x" * 64 * PAGE_SIZE)
    world = World(tmp_path)
    file = world.open(b"/file")
    assert file.pread(world.caller, 20, 0) == b"x" * 20
    (tmp_path / "another").write_bytes(b"z" * 64 * PAGE_SIZE)
    (tmp_path / "another").replace(tmp_path / "file")
    for i in range(MOST_OPEN + 1):
        (tmp_path / f"n{i}").write_bytes(b"n")
        world.read(b"/n%d" % i)
    assert file.pread(world.caller, 20, 0) == b"x" * 20
    assert errno_of(lambda: file.pread(world.caller, 20, 60 * PAGE_SIZE)) == errno.EIO
    put(file)
    world.close()


def test_offsets_that_no_file_has(tmp_path: Path) -> None:
    """EFBIG and EINVAL, before anything is promised."""
    world = World(tmp_path)
    file: OpenFile = world.open(b"/a", BOTH | os.O_CREAT)
    assert isinstance(file, OpenRegular)
    assert errno_of(lambda: file.pwrite(world.caller, b"x", (1 << 63) - 1)) == errno.EFBIG
    assert errno_of(lambda: file.seek(-1, 0)) == errno.EINVAL
    assert errno_of(lambda: file.seek(1 << 63, 0)) == errno.EINVAL
    assert errno_of(lambda: file.truncate(world.caller, (1 << 63) - 1)) == errno.EFBIG
    assert file.pwrite(world.caller, b"x", 1 << 40) == 1
    assert (file.stat().size, file.stat().blocks < 1 << 40) == ((1 << 40) + 1, True)
    put(file)
    put(world.open(b"/a", WRITE | os.O_TRUNC))
    assert world.tree.fs.space.left == world.tree.fs.space.nr_pages
    world.close()
