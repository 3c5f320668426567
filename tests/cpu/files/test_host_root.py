"""The host's directory: shown whole, reached part by part, never left, never changed; what is no file and no directory is never opened."""

import errno
import os
import random
import socket
import stat
from pathlib import Path

import pytest
from tests.cpu.files.world import BOTH, READ, WRITE, World, errno_of, fingerprint

from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.filesystem import FileLimits
from rmaplab.cpu.files.host_root import MOST_OPEN, DiskFile, DiskSpace, HostRoot
from rmaplab.cpu.files.inode import SymlinkInode
from rmaplab.cpu.files.lookup import resolve
from rmaplab.cpu.files.open_file import O_NONBLOCK, put
from rmaplab.errors import NoSpace, SyscallError, UsageError
from rmaplab.units import PAGE_SIZE

SECRET = b"nobody may read this"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A root with ways out of it, and things that act when they are opened."""
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (root / "file").write_bytes(b"shown")
    links = {
        "up": "..", "secret": "../secret", "absolute": str(tmp_path / "secret"), "far": "../" * 30 + str(tmp_path / "secret")[1:], "dir": "../outside",
        "sub/up2": "../../secret", "sub/deep/up3": "../../../outside", "loop": "loop", "proc_root": "/proc/self/root", "etc": "/etc",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        try:
            before = os.getcwd()  # noqa: PTH109
            os.chdir(root)
            one.bind("socket")
        finally:
            os.chdir(before)
    if os.getuid() == 0:
        for name, kind, number in (
            ("zero", stat.S_IFCHR, (1, 5)),
            ("mem", stat.S_IFCHR, (1, 1)),
            ("disk", stat.S_IFBLK, (7, 0)),
        ):
            try:
                os.mknod(root / name, 0o666 | kind, os.makedev(*number))
            except PermissionError:
                break
    return root


def everything(world: World, path: bytes = b"", depth: int = 0) -> list[bytes]:
    """All paths that can be reached, through links as well."""
    found = list[bytes]()
    try:
        inode = resolve(world.view, path or b"/").inode
    except SyscallError:
        return found
    if not isinstance(inode, DirectoryInode) or depth > 5:
        return found
    for name, *_ in inode.names(world.caller):
        found += (
            [path + b"/" + name, *everything(world, path + b"/" + name, depth + 1)]
            if name not in (b"proc", b"loop")
            else []
        )
    return found


def test_nothing_outside_is_reached_and_nothing_changes(hostile: Path) -> None:
    """Whatever is opened, read, written or taken away."""
    outside = fingerprint(hostile.parent)
    world = World(hostile)
    paths = everything(world)
    assert {b"/file", b"/sub/deep/up3", b"/dev/null", b"/fifo"} <= set(paths)
    tried = set[int]()
    for path in [
        *paths,
        *(b"/dir" + path for path in paths[:20]),
        b"/proc/self/root/../secret",
        b"/proc/self/cwd/../secret",
        b"/far",
        b"/absolute",
    ]:
        for flags in (
            READ | O_NONBLOCK,
            WRITE | O_NONBLOCK,
            BOTH | os.O_CREAT | O_NONBLOCK,
            WRITE | os.O_TRUNC | O_NONBLOCK,
        ):
            try:
                file = world.open(path, flags)
            except OSError as failure:
                tried.add(failure.errno or 0)
                continue
            if flags & 3 == READ:
                tried.add(errno_of(lambda file=file: check_secret(world, file)))  # type: ignore[misc]
            else:
                tried.add(errno_of(lambda file=file: file.write(world.caller, b"changed")))  # type: ignore[misc]
            put(file)
    assert {0, errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENXIO} <= tried
    assert fingerprint(hostile.parent) == outside
    world.close()


def check_secret(world: World, file: object) -> None:
    data = file.read(world.caller, 4096)  # type: ignore[attr-defined]
    assert SECRET not in data


def test_special_files_are_told_of_and_not_opened(hostile: Path) -> None:
    """A FIFO is a pipe of the simulated machine; devices and sockets have nobody behind them."""
    world = World(hostile)
    assert stat.S_ISFIFO(resolve(world.view, b"/fifo").inode.stat().mode)  # type: ignore[union-attr]
    assert stat.S_ISSOCK(resolve(world.view, b"/socket").inode.stat().mode)  # type: ignore[union-attr]
    assert errno_of(lambda: world.open(b"/socket")) == errno.ENXIO
    reader = world.open(b"/fifo", READ | O_NONBLOCK)
    writer = world.open(b"/fifo", WRITE)
    assert writer.write(world.caller, b"through") == 7
    assert reader.read(world.caller, 100) == b"through"
    put(reader)
    put(writer)
    for name in (b"/zero", b"/mem", b"/disk"):
        if (inode := resolve(world.view, name).inode) is not None:
            assert inode.rdev == (hostile / name[1:].decode()).stat().st_rdev
            assert errno_of(lambda name=name: world.open(name)) == errno.ENXIO  # type: ignore[misc]
    world.close()


@pytest.mark.parametrize("what", ["sub", "file"])
def test_a_name_that_becomes_a_link_is_not_followed(what: str, hostile: Path) -> None:
    """Between looking it up and reading it."""
    world = World(hostile)
    (hostile / "sub" / "secret").write_bytes(b"inner")
    assert resolve(world.view, b"/" + what.encode()).inode is not None
    (hostile / what).rename(hostile / "away")
    (hostile / what).symlink_to("../outside" if what == "sub" else "../secret")
    path = b"/sub/secret" if what == "sub" else b"/file"
    assert errno_of(lambda: world.read(path)) != 0
    world.close()


def test_file_systems_of_the_kernel_are_not_shown() -> None:
    """The host's own /proc is an empty directory, by whatever name."""
    world = World(Path("/"))
    for path in (b"/proc/1/root", b"/sys/kernel", b"/dev/mem", b"/dev/pts/0"):
        assert errno_of(lambda path=path: world.open(path)) == errno.ENOENT  # type: ignore[misc]
    host = HostRoot("/")
    found = host.stat((b"proc",))
    assert found is not None
    assert not host.is_shown(found)
    assert errno_of(lambda: host.names((b"proc",))) == errno.ENOENT
    host.close()
    world.close()


def test_few_descriptors_of_the_host_are_open(tmp_path: Path) -> None:
    """However many files are read."""
    for i in range(3 * MOST_OPEN):
        (tmp_path / f"d{i}").mkdir()
        (tmp_path / f"d{i}" / "f").write_bytes(b"%d" % i)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    world = World(tmp_path)
    files = [world.open(b"/d%d/f" % i) for i in range(3 * MOST_OPEN)]
    assert len(os.listdir("/proc/self/fd")) - before <= 2 * MOST_OPEN + 2  # noqa: PTH208
    assert [file.read(world.caller, 10) for file in files] == [b"%d" % i for i in range(3 * MOST_OPEN)]
    for file in files:
        put(file)
    world.close()
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


def test_names_are_in_order_and_numbers_the_same_twice(hostile: Path) -> None:
    """So two runs are equal."""

    def told() -> list[tuple[bytes, int]]:
        world = World(hostile)
        found = [(name, ino) for name, ino, _ in world.tree.root.names(world.caller)]
        world.close()
        return found

    first = told()
    assert first == told()
    assert [name for name, _ in first] == sorted(name for name, _ in first)
    assert len({ino for _, ino in first}) == len(first)


def test_two_names_of_a_file_are_one(tmp_path: Path) -> None:
    """What is written by one name is read by the other."""
    (tmp_path / "one").write_bytes(b"before")
    os.link(tmp_path / "one", tmp_path / "other")
    world = World(tmp_path)
    world.write(b"/one", b"after!")
    assert world.read(b"/other") == b"after!"
    assert resolve(world.view, b"/one").inode is resolve(world.view, b"/other").inode
    world.close()


@pytest.mark.parametrize("root", ["/nonexistent", "/etc/passwd", "", "a\0b"])
def test_no_such_root(root: str) -> None:
    """One line."""
    with pytest.raises(UsageError, match="name a directory"):
        HostRoot(root)


def test_too_many_names(tmp_path: Path) -> None:
    """End the run with a clear word."""
    for i in range(30):
        (tmp_path / str(i)).touch()
    world = World(tmp_path, limits=FileLimits(seen=20))
    with pytest.raises(UsageError, match="more than 20 files"):
        world.tree.root.names(world.caller)
    world.close()


def test_a_disk_file_is_a_dictionary_that_counts_its_pages() -> None:
    """Against one that does not: pages of the host beneath, written ones above, some deleted."""

    class Host:
        def page(self, parts: tuple[bytes, ...], index: int, identity: tuple[int, int]) -> bytes:
            return b"host %d" % index

    for seed in range(20):
        rng, space = random.Random(seed), DiskSpace(16 * PAGE_SIZE)
        file = DiskFile(space, Host(), (b"x",), 5)  # type: ignore[arg-type]
        model = {i: b"host %d" % i for i in range(5)}
        written, promised = set[int](), set[int]()
        for _ in range(200):
            index, what = rng.randrange(12), rng.randrange(5)
            if what == 0:
                try:
                    file.promise(index, index + 1)
                    promised |= {index, index + 1} - written
                except NoSpace:
                    assert len(written | promised | {index, index + 1}) > 16
            elif what == 1 and (index in promised or space.left):
                file[index] = model[index] = b"new %d" % rng.randrange(9)
                written.add(index)
                promised.discard(index)
            elif what == 2 and index in model:
                del file[index]
                del model[index]
                written.discard(index)
            elif what == 3:
                file.forget(index)
                promised = {i for i in promised if i < index}
            assert dict(file) == model
            assert (len(file), bool(file)) == (len(model), bool(model))
            assert space.left == 16 - len(written) - len(promised)
        file.close()
        assert (dict(file), space.left) == ({}, 16)


def test_links_say_what_they_say(hostile: Path) -> None:
    """Bytes, and their number."""
    world = World(hostile)
    inode = resolve(world.view, b"/up", follow=False).inode
    assert isinstance(inode, SymlinkInode)
    assert (inode.target, inode.size) == (b"..", 2)
    world.close()
