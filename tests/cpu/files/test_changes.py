"""What programs do to names has the outcome that it has on Linux: the same steps are done to a directory of the host, and the errno, the names, the modes and the bytes compared.

The host's own root does not change, and what is written out at the end is what the other directory has.
"""

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cpu.files.world import WRITE, World, errno_of, fingerprint

from rmaplab.cpu.files.changes import link, make, rename, rmdir, unlink
from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.filesystem import FileLimits
from rmaplab.cpu.files.inode import Inode, SymlinkInode, Who
from rmaplab.cpu.files.lookup import PathEnd, resolve
from rmaplab.cpu.files.open_file import put
from rmaplab.errors import SyscallError, UsageError

NAMES = [b"a", b"b", b"c"]
HIDDEN = (b"dev", b"proc", b"sys", b"tmp", b"run")


def plain_path(rng: random.Random) -> bytes:
    """Without dots: links that a file is written through may lead out of the host's directory otherwise."""
    return b"/".join(rng.choice(NAMES) for _ in range(rng.randint(1, 3)))


class Host:
    """The same calls on a directory of the host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fd = os.open(root, os.O_RDONLY)

    def run(self, act: Callable[[], object]) -> int:
        before = os.getcwd()  # noqa: PTH109
        os.chdir(self.root)
        try:
            act()
        except OSError as failure:
            return failure.errno or -1
        finally:
            os.chdir(before)
        return 0


def step(rng: random.Random, world: World) -> tuple[str, Callable[[], object], Callable[[], object]]:
    """What is done, on the host, here."""
    fs, one, other = world.tree.fs, plain_path(rng), plain_path(rng)

    def here(name: bytes) -> PathEnd:
        return resolve(world.view, name, follow=False)

    def put_file(name: bytes, data: bytes, flags: int) -> None:
        file = world.open(name, flags, 0o640)
        try:
            file.write(world.caller, data)
        finally:
            put(file)

    def host_file(name: bytes, data: bytes, flags: int) -> None:
        fd = os.open(name, flags, 0o640)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    data = rng.choice([b"", b"x", b"abc" * 2000])
    flags = (
        rng.choice(
            [os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_APPEND, 0, os.O_CREAT | os.O_NOFOLLOW]
        )
        | os.O_WRONLY
    )
    target = rng.choice([b"a", b"b/c", b"nothing"])
    size = rng.choice([0, 1, 5000])
    mode = rng.choice([0o700, 0o755])
    rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        (f"mkdir {one!r}", lambda: os.mkdir(one, mode), lambda: make(fs, world.view, here(one), stat.S_IFDIR | mode, "mkdir")),  # noqa: PTH102
        (f"rmdir {one!r}", lambda: os.rmdir(one), lambda: rmdir(fs, world.view, here(one))),  # noqa: PTH106
        (f"unlink {one!r}", lambda: os.unlink(one), lambda: unlink(fs, world.view, here(one))),  # noqa: PTH108
        (f"rename {one!r} {other!r}", lambda: os.rename(one, other), lambda: rename(fs, world.view, here(one), here(other))),  # noqa: PTH104
        (f"rename {one!r} {other!r}", lambda: os.rename(one, other), lambda: rename(fs, world.view, here(one), here(other))),  # noqa: PTH104
        (f"link {one!r} {other!r}", lambda: os.link(one, other, follow_symlinks=False), lambda: link(fs, world.view, existing(world, one), here(other))),
        (f"symlink {target!r} {one!r}", lambda: os.symlink(target, one), lambda: make(fs, world.view, here(one), stat.S_IFLNK, "symlink", target=target)),  # noqa: PTH211
        (f"write {one!r} {flags:o} {len(data)}", lambda: host_file(one, data, flags), lambda: put_file(one, data, flags)),
        (f"write {one!r} {flags:o} {len(data)}", lambda: host_file(one, data, flags), lambda: put_file(one, data, flags)),
        (f"truncate {one!r} {size}", lambda: os.truncate(one, size), lambda: truncate(world, one, size)),
    ]  # fmt: skip
    return rng.choice(rows)


def existing(world: World, name: bytes) -> Inode:
    inode = resolve(world.view, name, follow=False).inode
    if inode is None:
        raise SyscallError(errno.ENOENT, "link")
    return inode


def truncate(world: World, name: bytes, size: int) -> None:
    if isinstance(resolve(world.view, name).inode, DirectoryInode):
        raise SyscallError(errno.EISDIR, "truncate")
    file = world.open(name, WRITE)
    try:
        file.truncate(world.caller, size)
    finally:
        put(file)


def told(world: World, directory: DirectoryInode, prefix: bytes = b"") -> dict[bytes, tuple[object, ...]]:
    """By path: mode, links, size, bytes or target."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name, _, kind in directory.names(world.caller):
        if not prefix and name in HIDDEN:
            continue
        inode = directory.find(name, world.caller)
        assert inode is not None
        assert stat.S_IFMT(inode.stat().mode) == kind
        at = prefix + name
        if isinstance(inode, DirectoryInode):
            found[at] = (inode.stat().mode,)
            found |= told(world, inode, at + b"/")
        elif isinstance(inode, SymlinkInode):
            found[at] = inode.stat().mode, inode.nlink, inode.target
        else:
            found[at] = inode.stat().mode, inode.nlink, inode.size, world.read(b"/" + at)
    return found


def told_by_host(root: Path) -> dict[bytes, tuple[object, ...]]:
    found: dict[bytes, tuple[object, ...]] = {}
    for above, below, names in os.walk(os.fsencode(root)):
        for name in below + names:
            full = os.path.join(above, name)  # noqa: PTH118
            at, of = os.path.relpath(full, os.fsencode(root)), os.lstat(full)
            if stat.S_ISDIR(of.st_mode):
                found[at] = (of.st_mode,)
            elif stat.S_ISLNK(of.st_mode):
                found[at] = of.st_mode, of.st_nlink, os.readlink(full)  # noqa: PTH115
            else:
                found[at] = of.st_mode, of.st_nlink, of.st_size, Path(os.fsdecode(full)).read_bytes()
    return found


def start(root: Path) -> None:
    """Something to begin with."""
    (root / "a" / "b").mkdir(parents=True, mode=0o755)
    (root / "a" / "c").write_bytes(b"of the host" * 1000)
    (root / "b").write_bytes(b"short")
    os.link(root / "b", root / "a" / "b" / "a")
    (root / "c").symlink_to("a/c")


@pytest.mark.parametrize("seed", range(5))
def test_names_come_and_go_as_on_linux(seed: int, tmp_path: Path) -> None:
    """Some hundred steps each."""
    rng = random.Random(seed)
    root, real, scratch = tmp_path / "root", tmp_path / "real", tmp_path / "scratch"
    before = os.umask(0)
    try:
        start(root)
        start(real)
        same = fingerprint(root)
        world, host = World(root), Host(real)
        met = set[int]()
        for nr in range(250):
            what, there, here = step(rng, world)
            expected, got = host.run(there), errno_of(here)
            assert got == expected, (nr, what)
            met.add(got)
        os.close(host.fd)
        assert told(world, world.tree.root) == told_by_host(real)
        assert fingerprint(root) == same
        assert {0, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR} <= met
        world.tree.write_out(scratch)
        written = told_by_host(scratch)
        everything = told_by_host(real)
        unchanged = told_by_host(root)
        for name, facts in everything.items():
            if name in written:
                assert (written[name][0], *written[name][2:]) == (facts[0], *facts[2:])
            elif name in unchanged:
                assert facts == unchanged[name]
        assert fingerprint(root) == same
        world.close()
    finally:
        os.umask(before)


def test_too_many_files(tmp_path: Path) -> None:
    """End the run with a clear word; what goes makes room."""
    world = World(tmp_path, limits=FileLimits(made=10))
    for i in range(50):
        world.write(b"/x", b"%d" % i)
        unlink(world.tree.fs, world.view, resolve(world.view, b"/x"))
    for i in range(10):
        world.write(b"/%d" % i, b"")
    with pytest.raises(UsageError, match="more than 10 files"):
        world.write(b"/one-more", b"")
    world.close()


def test_each_name_that_is_made_and_goes_counts_once(tmp_path: Path) -> None:
    """Second names too; a call that fails makes none, and what goes of the host makes no room."""
    for i in range(20):
        (tmp_path / f"of_host{i}").write_bytes(b"x")
    world = World(tmp_path, limits=FileLimits(made=10))
    fs, view = world.tree.fs, world.view
    world.write(b"/x", b"")
    inode = world.tree.root.find(b"x", world.caller)
    assert inode is not None
    for i in range(20):
        link(fs, view, inode, resolve(view, b"/y"))
        unlink(fs, view, resolve(view, b"/y"))
        assert errno_of(lambda: make(fs, view, resolve(view, b"/z"), stat.S_IFLNK, "symlink", b"")) == errno.ENOENT
        world.write(b"/of_host%d" % i, b"other")
        unlink(fs, view, resolve(view, b"/of_host%d" % i))
        assert fs.nr_made == 1
    unlink(fs, view, resolve(view, b"/x"))
    assert fs.nr_made == 0
    world.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """ENOSPC, as of a real one; what is unlinked makes room, once nobody has it open."""
    world = World(tmp_path, limits=FileLimits(disk_bytes=64 << 10))
    assert world.write(b"/a", bytes(60 << 10)) == 60 << 10
    assert errno_of(lambda: world.write(b"/b", bytes(8 << 10))) == errno.ENOSPC
    file = world.open(b"/a")
    unlink(world.tree.fs, world.view, resolve(world.view, b"/a"))
    assert errno_of(lambda: world.write(b"/b", bytes(8 << 10))) == errno.ENOSPC
    put(file)
    assert world.write(b"/b", bytes(40 << 10)) == 40 << 10
    world.close()


def test_who_may_not(tmp_path: Path) -> None:
    """A user who is not root has the rights that modes give; others' names in a sticky directory stay."""
    tmp_path.chmod(0o755)
    (tmp_path / "of_root").mkdir(mode=0o755)
    (tmp_path / "of_root" / "secret").write_bytes(b"x")
    (tmp_path / "of_root" / "secret").chmod(0o600)
    world = World(tmp_path)
    world.write(b"/tmp/of_root", b"")
    world.who = Who(12345, 12345)
    if os.getuid() == 0:
        assert errno_of(lambda: world.read(b"/of_root/secret")) == errno.EACCES
        assert errno_of(lambda: world.write(b"/of_root/new", b"")) == errno.EACCES
    assert errno_of(lambda: unlink(world.tree.fs, world.view, resolve(world.view, b"/tmp/of_root"))) == errno.EPERM
    world.write(b"/tmp/mine", b"")
    unlink(world.tree.fs, world.view, resolve(world.view, b"/tmp/mine"))
    world.close()


def test_another_file_system(tmp_path: Path) -> None:
    """No name leads from one to another, and where one begins nothing is taken away."""
    world = World(tmp_path)
    world.write(b"/a", b"")
    fs, view = world.tree.fs, world.view
    assert errno_of(lambda: rename(fs, view, resolve(view, b"/a"), resolve(view, b"/tmp/a"))) == errno.EXDEV
    assert errno_of(lambda: rmdir(fs, view, resolve(view, b"/tmp"))) == errno.EBUSY
    assert errno_of(lambda: world.write(b"/proc/x", b"")) == errno.EROFS
    assert errno_of(lambda: world.write(b"/sys/x", b"")) == errno.EROFS
    world.close()
