"""/proc tells of the simulated machine and its programs, and of nothing else."""

import errno
import os
import re
from pathlib import Path

import pytest
from tests.cpu.files.world import BOTH, READ, WRITE, World, errno_of

from rmaplab.cpu.abi import X86_64
from rmaplab.cpu.engine import Space
from rmaplab.cpu.files.changes import unlink
from rmaplab.cpu.files.inode import SymlinkInode
from rmaplab.cpu.files.lookup import resolve
from rmaplab.cpu.files.open_file import O_RDONLY, OpenFile, put
from rmaplab.cpu.files.pipes import Pipe, PipeEnd
from rmaplab.cpu.process import Process
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "6.18")


class Inhabited(World):
    """With a process whose eyes we look through."""

    def __init__(self, root: Path, kernel: str = "6.18") -> None:
        super().__init__(root, kernel=kernel)
        self.task = self.system.spawn(root=True)
        self.process = process = Process(self.task.pid, None, X86_64)
        process.first_task, process.cwd, process.root = self.task, self.tree.root, self.tree.root
        assert self.task.mm is not None
        process.space, process.name, process.executable, process.arguments = (
            Space(self.task.mm),
            b"a (b)\n",
            b"/file",
            [b"a", b"\xff"],
        )
        self.tree.proc.processes = {process.pid: process}
        self.caller.pid = process.pid

    def link(self, path: bytes) -> bytes:
        inode = resolve(self.view, path, follow=False).inode
        assert isinstance(inode, SymlinkInode)
        return inode.target

    def install(self, file: OpenFile) -> int:
        return self.process.descriptors.install(file)


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_of_it_can_be_read(kernel: str, tmp_path: Path) -> None:
    """Every name that is listed is there, of the kind that was said, and is read to its end in pieces as at once."""
    (tmp_path / "file").write_bytes(b"x")
    world = Inhabited(tmp_path, kernel)
    world.install(world.open(b"/file"))
    seen = 0
    todo = [b"/proc"]
    while todo:
        path = todo.pop()
        file = world.open(path)
        for name, ino, kind in world.tree.directory(world.process, path).names(world.caller):
            inode = resolve(world.view, path + b"/" + name, follow=False).inode
            assert inode is not None
            assert (inode.ino, inode.stat().mode & 0o170000) == (ino, kind)
            seen += 1
            if kind == 0o040000:
                todo.append(path + b"/" + name)
            elif kind == 0o100000:
                text = world.read(path + b"/" + name)
                opened = world.open(path + b"/" + name)
                assert b"".join(iter(lambda opened=opened: opened.read(world.caller, 7), b"")) == text  # type: ignore[misc]
                put(opened)
        put(file)
    assert seen > 30
    world.process.descriptors.leave()
    world.task.exit()
    world.close()


def test_it_is_the_booted_kernel_s(tmp_path: Path) -> None:
    """Byte for byte."""
    world = Inhabited(tmp_path, "2.6.2")
    assert world.read(b"/proc/version").decode() == world.system.proc_version()
    assert world.read(b"/proc/meminfo").decode() == world.system.proc_meminfo()
    assert world.read(b"/proc/vmstat").decode() == world.system.proc_vmstat()
    assert world.read(b"/proc/sys/kernel/osrelease").startswith(b"2.6.2")
    world.task.exit()
    world.close()


def test_maps_are_the_mm_s(tmp_path: Path) -> None:
    """With the names of files, also of those that have none any more."""
    (tmp_path / "file").write_bytes(b"x" * 2 * PAGE_SIZE)
    world = Inhabited(tmp_path)
    world.write(b"/new", b"y" * PAGE_SIZE)
    for name in (b"/file", b"/new"):
        file = world.open(name, BOTH)
        world.task.mmap_opened(
            PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED if name == b"/new" else MAP_PRIVATE, 0, file.mappable(), 0
        )
        put(file)
    unlink(world.tree.fs, world.view, resolve(world.view, b"/new"))
    lines = world.read(b"/proc/self/maps").splitlines()
    assert world.task.mm is not None
    assert [line.split()[0] for line in lines] == [
        f"{vma.start:08x}-{vma.end:08x}".encode() for vma in world.task.mm.vmas
    ]
    told = {line.split(None, 5)[5]: line.split()[1] for line in lines if len(line.split()) > 5}
    assert told == {b"/file": b"rw-p", b"/new (deleted)": b"rw-s"}
    world.task.exit()
    world.close()


def test_a_process_in_numbers_and_words(tmp_path: Path) -> None:
    """Whatever its name is."""
    world = Inhabited(tmp_path)
    stat = world.read(b"/proc/self/stat")
    found = re.fullmatch(rb"(\d+) \((.*)\) (\S.*)\n", stat, re.DOTALL)
    assert found is not None
    assert (int(found[1]), found[2], len(found[3].split())) == (world.process.pid, b"a (b)\n", 50)
    assert world.read(b"/proc/self/cmdline") == b"a\0\xff\0"
    assert world.read(b"/proc/self/status").startswith(b"Name:\ta (b)\\n\nUmask:\t0022\n")
    assert world.link(b"/proc/self") == b"%d" % world.process.pid
    world.task.exit()
    world.close()


def test_descriptors_and_what_they_mean(tmp_path: Path) -> None:
    """A link says what it is, and leads to it: to an open file that has no name, too."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(b"bytes")
    world = Inhabited(tmp_path)
    file, directory = world.install(world.open(b"/file")), world.install(world.open(b"/sub"))
    pipe = Pipe(77)
    end, writer = world.install(PipeEnd(pipe, O_RDONLY)), PipeEnd(pipe, WRITE)
    assert [world.link(b"/proc/self/fd/%d" % fd) for fd in (file, directory, end)] == [b"/file", b"/sub", b"pipe:[77]"]
    assert world.link(b"/proc/self/exe") == b"/file"
    assert world.read(b"/dev/fd/%d" % file) == b"bytes"
    assert world.read(b"/proc/self/exe") == b"bytes"
    writer.write(world.caller, b"piped")
    again = world.open(b"/proc/self/fd/%d" % end)
    assert (again.read(world.caller, 9), pipe.readers) == (b"piped", 2)
    put(again)
    unlink(world.tree.fs, world.view, resolve(world.view, b"/file"))
    assert world.link(b"/proc/self/fd/%d" % file) == b"/file (deleted)"
    assert world.read(b"/proc/self/fd/%d" % file) == b"bytes"
    for bad in (b"99", b"-1", b"01", b"x", b"1" * 40):
        assert errno_of(lambda bad=bad: world.open(b"/proc/self/fd/" + bad)) == errno.ENOENT  # type: ignore[misc]
    world.process.descriptors.leave()
    world.task.exit()
    world.close()


def test_there_is_no_way_out(tmp_path: Path) -> None:
    """Root and cwd are the tree's, and the host's processes are nobody's."""
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    world = Inhabited(tmp_path / "root")
    for path in (
        b"/proc/self/root/../secret",
        b"/proc/self/cwd/../secret",
        b"/proc/%d" % os.getpid(),
        b"/proc/kcore",
        b"/proc/self/mem",
    ):
        if path != b"/proc/%d" % world.process.pid:
            assert errno_of(lambda path=path: world.open(path)) == errno.ENOENT  # type: ignore[misc]
    assert resolve(world.view, b"/proc/self/root").inode is world.tree.root
    for path, flags in (
        (b"/proc/x", WRITE | os.O_CREAT),
        (b"/proc/self/x", WRITE | os.O_CREAT),
        (b"/proc/self", WRITE),
    ):
        assert errno_of(lambda path=path, flags=flags: world.open(path, flags)) in (errno.EROFS, errno.EISDIR)  # type: ignore[misc]
    assert errno_of(lambda: unlink(world.tree.fs, world.view, resolve(world.view, b"/proc/version"))) == errno.EROFS
    world.task.exit()
    world.close()


def test_nobody_s_self(tmp_path: Path) -> None:
    """Who is no process sees none."""
    world = World(tmp_path)
    assert errno_of(lambda: world.open(b"/proc/self/maps", READ)) == errno.ENOENT
    world.close()


def test_random_bytes_are_the_same_in_every_run(tmp_path: Path) -> None:
    """/dev/urandom; and the other devices."""

    def told() -> tuple[bytes, bytes]:
        world = World(tmp_path)
        file = world.open(b"/dev/urandom")
        first, then = file.read(world.caller, 16), file.read(world.caller, 16)
        put(file)
        zero, full = world.open(b"/dev/zero", BOTH), world.open(b"/dev/full", BOTH)
        assert (zero.read(world.caller, 9), zero.write(world.caller, b"x"), full.read(world.caller, 3)) == (
            bytes(9),
            1,
            bytes(3),
        )
        assert errno_of(lambda: full.write(world.caller, b"x")) == errno.ENOSPC
        put(zero)
        put(full)
        assert (world.read(b"/dev/null"), world.write(b"/dev/null", b"gone")) == (b"", 4)
        assert errno_of(lambda: world.open(b"/dev/tty")) == errno.ENXIO
        world.close()
        return first, then

    first, then = told()
    assert first != then
    assert told() == (first, then)
