"""A path leads where Linux says it leads below a root: openat2(RESOLVE_IN_ROOT) of the host is asked the same."""

import ctypes
import errno
import os
import random
import struct
from pathlib import Path

import pytest
from tests.cpu.files.world import World

from rmaplab.cpu.files.changes import make
from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.lookup import MAXSYMLINKS, path_of, resolve
from rmaplab.errors import SyscallError

OPENAT2, RESOLVE_IN_ROOT, O_PATH = 437, 0x10, 0o10000000
_libc = ctypes.CDLL(None, use_errno=True)


def host_resolves(root: int, path: bytes, *, follow: bool) -> tuple[int, int] | int:
    """(st_dev, st_ino) of what the host finds, or its errno."""
    how = struct.pack("<QQQ", O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), 0, RESOLVE_IN_ROOT)
    fd = _libc.syscall(OPENAT2, root, path, how, len(how))
    if fd < 0:
        return ctypes.get_errno()
    try:
        found = os.fstat(fd)
        return found.st_dev, found.st_ino
    finally:
        os.close(fd)


def has_openat2() -> bool:
    root = os.open("/", O_PATH)
    try:
        return not isinstance(host_resolves(root, b".", follow=True), int)
    finally:
        os.close(root)


NAMES = [b"a", b"b", b"c", b"d"]


def random_path(rng: random.Random) -> bytes:
    parts = [rng.choice([*NAMES, *NAMES, b"..", b".", b"", b"nothing"]) for _ in range(rng.randint(1, 5))]
    return rng.choice([b"", b"/", b""]) + b"/".join(parts) + rng.choice([b"", b"", b"/"])


def grow(rng: random.Random, root: Path) -> None:
    """Directories, files, and links that lead anywhere: out of it, in circles, to nothing."""
    directories = [os.fsencode(root)]
    for _ in range(30):
        path = os.path.join(rng.choice(directories), rng.choice(NAMES))  # noqa: PTH118  (bytes)
        if os.path.lexists(path):
            continue
        kind = rng.random()
        if kind < 0.35:
            os.mkdir(path)  # noqa: PTH102
            directories.append(path)
        elif kind < 0.55:
            Path(os.fsdecode(path)).write_bytes(path)
        else:
            os.symlink(random_path(rng) or b".", path)  # noqa: PTH211


@pytest.mark.skipif(not has_openat2(), reason="openat2")
@pytest.mark.parametrize("seed", range(6))
def test_every_path_leads_where_linux_says(seed: int, tmp_path: Path) -> None:
    """The same inode, or the same errno."""
    rng = random.Random(seed)
    root = tmp_path / "root"
    root.mkdir()
    grow(rng, root)
    world = World(root)
    fd = os.open(root, O_PATH)
    met = set[object]()
    for _ in range(400):
        path, follow = random_path(rng), rng.random() < 0.7
        if not path:
            continue
        asked = host_resolves(fd, path, follow=follow)
        try:
            inode = resolve(world.view, path, follow=follow).inode
            got = -errno.ENOENT if inode is None else inode.ino
        except SyscallError as failure:
            got = -(failure.errno or 0)
        expected = -asked if isinstance(asked, int) else world.tree.fs.ino_of(*asked)
        if got == errno.ENOENT and isinstance(asked, int):
            got = -errno.ENOENT
        met.add(asked if isinstance(asked, int) else "found")
        assert got == expected, (path, follow, asked)
    os.close(fd)
    assert {"found", errno.ENOENT} <= met
    world.close()


def test_dots_at_the_root_stay_there(tmp_path: Path) -> None:
    """However many."""
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("x")
    world = World(tmp_path / "root")
    for path in (b"/../secret", b"../../../secret", b"/tmp/../../secret", b"/proc/../../secret"):
        assert resolve(world.view, path).inode is None
    assert resolve(world.view, b"/..").inode is world.tree.root
    world.close()


def test_a_chain_of_links_ends(tmp_path: Path) -> None:
    """After MAXSYMLINKS."""
    (tmp_path / "end").write_text("there")
    for i in range(MAXSYMLINKS + 1):
        (tmp_path / f"l{i}").symlink_to(f"l{i - 1}" if i else "end")
    world = World(tmp_path)
    assert world.read(b"/l%d" % (MAXSYMLINKS - 1)) == b"there"
    with pytest.raises(SyscallError) as failure:
        world.read(b"/l%d" % MAXSYMLINKS)
    assert failure.value.errno == errno.ELOOP
    world.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", errno.ENOENT),
        (b"x" * 256, errno.ENAMETOOLONG),
        (b"x" * 255, errno.ENOENT),
        (b"/" * 4096, errno.ENAMETOOLONG),
        (b"./" * 2047 + b"nothing", errno.ENAMETOOLONG),
        (b"\xff\xfe\x80", errno.ENOENT),
        (b"new\nline", errno.ENOENT),
    ],
)
def test_hostile_names(path: bytes, expected: int, tmp_path: Path) -> None:
    """Are bytes, and have Linux's limits."""
    world = World(tmp_path)
    with pytest.raises(SyscallError) as failure:
        world.open(path)
    assert failure.value.errno == expected
    world.close()


def test_a_path_has_as_many_parts_as_it_may(tmp_path: Path) -> None:
    """2,047 of them, and nothing recurses."""
    world = World(tmp_path)
    world.cwd = world.tree.root
    for _ in range(1500):
        made = make(world.tree.fs, world.view, resolve(world.view, b"d"), 0o040755, "mkdir")
        assert isinstance(made, DirectoryInode)
        world.cwd = made
    assert path_of(world.cwd, world.tree.root) == b"/d" * 1500
    assert resolve(world.view, b"../" * 1364).inode is not None
    world.cwd = world.tree.root
    assert resolve(world.view, b"/d" * 1500).inode is not None
    world.close()


def test_a_link_that_ends_with_a_slash_leads_to_a_directory(tmp_path: Path) -> None:
    """Or nowhere."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file/")
    world = World(tmp_path)
    with pytest.raises(SyscallError) as failure:
        resolve(world.view, b"/link")
    assert failure.value.errno == errno.ENOTDIR
    world.close()


def test_a_process_s_own_root_is_the_top(tmp_path: Path) -> None:
    """After chroot(2) dots and links stay below it."""
    (tmp_path / "jail" / "in").mkdir(parents=True)
    (tmp_path / "secret").touch()
    (tmp_path / "jail" / "up").symlink_to("/../secret")
    world = World(tmp_path)
    jail = resolve(world.view, b"/jail").inode
    assert isinstance(jail, DirectoryInode)
    view = world.view._replace(root=jail, start=jail)
    for path in (b"../secret", b"/in/../../secret", b"up"):
        assert resolve(view, path).inode is None
    assert resolve(view, b"/../in").inode is not None
    world.close()
