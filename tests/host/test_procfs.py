"""/proc as it is, and as it is when a process ends, is not ours, or the kernel lacks a file."""

import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from rmaplab.host import pagemap, procfs
from rmaplab.host.procfs import PAGE_BYTES, HostVma, Unread

SHARED_MM = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
pause = ctypes.cast(libc.pause, ctypes.c_void_p)  # what runs in our memory beside us had better do nothing
CLONE_VM, SIGCHLD = 0x100, 17
child = libc.clone(pause, ctypes.c_void_p((ctypes.addressof(stack) + (1 << 16)) & -16), CLONE_VM | SIGCHLD, None)
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
os.waitpid(child, 0)
"""


@contextmanager
def two_processes_of_one_mm() -> Iterator[tuple[int, int]]:
    """(pid, pid) of processes that share an address space without being threads."""
    program = [sys.executable, "-c", SHARED_MM]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


def ended() -> int:
    """The PID of a process that has ended and was waited for."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def a_kernel_thread() -> int:
    for pid in procfs.processes():
        status = procfs.read_status(pid)
        if not isinstance(status, Unread) and status.is_kernel_thread:
            return pid
    pytest.skip("no kernel thread in this PID namespace")


def test_a_mapping_of_ours_is_in_maps(tmp_path: os.PathLike[str]) -> None:
    """Start, end, permissions, offset, inode and name of a file that is mapped from its second page on."""
    path = os.path.join(tmp_path, "a file with a space")  # noqa: PTH118
    with open(path, "wb+") as file:  # noqa: PTH123
        file.write(bytes(4 * PAGE_BYTES))
        file.flush()
        with mmap.mmap(file.fileno(), 2 * PAGE_BYTES, prot=mmap.PROT_READ, offset=PAGE_BYTES) as mapping:
            address = np.frombuffer(mapping, np.uint8).ctypes.data
            maps = procfs.read_maps(os.getpid())
        assert not isinstance(maps, Unread)
        (vma,) = (vma for vma in maps if vma.start <= address < vma.end)
        assert (vma.end - vma.start, vma.perms, vma.offset_bytes) == (2 * PAGE_BYTES, "r--s", PAGE_BYTES)
        assert (vma.inode, vma.name) == (os.fstat(file.fileno()).st_ino, path)
        assert [vma.index_of(vma.start + i * PAGE_BYTES) for i in range(2)] == [1, 2]
        assert [vma.address_of(i) for i in range(4)] == [None, vma.start, vma.start + PAGE_BYTES, None]


def test_maps_ascend_and_names_of_many_words_are_kept() -> None:
    line = b"7f00-7fff r--s 0000f000 fd:00 12345                      /tmp/a b (deleted)\n"
    assert procfs.parse_maps(line) == [HostVma(0x7F00, 0x7FFF, "r--s", 0xF000, "fd:00", 12345, "/tmp/a b (deleted)")]
    (anonymous,) = procfs.parse_maps(b"7f00-7fff rw-p 00000000 00:00 0 \n")
    assert (anonymous.name, anonymous.file) == ("", None)
    maps = procfs.read_maps(os.getpid())
    assert not isinstance(maps, Unread)
    assert all(below.end <= above.start for below, above in pairwise(maps))


def test_smaps_figures_are_of_the_vma_asked_for() -> None:
    """16 pages written of 64, and no figure of a neighbour."""
    with mmap.mmap(-1, 64 * PAGE_BYTES, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as memory:
        array = np.frombuffer(memory, np.uint8)
        array[: 16 * PAGE_BYTES] = 1
        maps = procfs.read_maps(os.getpid())
        assert not isinstance(maps, Unread)
        (vma,) = (vma for vma in maps if vma.start <= array.ctypes.data < vma.end)
        smaps = procfs.read_smaps(os.getpid(), vma.start)
        del array
    assert not isinstance(smaps, Unread)
    assert (smaps["Size"], smaps["Rss"]) == (64 * PAGE_BYTES, 16 * PAGE_BYTES)
    assert procfs.read_smaps(os.getpid(), vma.start + PAGE_BYTES) == {}


def test_status_tells_processes_threads_and_kernel_threads_apart() -> None:
    own = procfs.read_status(os.getpid())
    assert not isinstance(own, Unread)
    assert (own.tgid, own.is_kernel_thread, own.comm) == (os.getpid(), False, procfs.read_comm(os.getpid()))
    kernel = procfs.read_status(a_kernel_thread())
    assert not isinstance(kernel, Unread)
    assert kernel.is_kernel_thread
    assert procfs.read_maps(a_kernel_thread()) is Unread.NO_MEMORY


def test_a_process_that_has_ended_is_a_value() -> None:
    pid = ended()
    for read in (procfs.read_status, procfs.read_maps, pagemap.read_present):
        assert read(pid) is Unread.ENDED
    assert procfs.read_comm(pid) == "?"
    assert pagemap.join([pid]).unread == {pid: Unread.ENDED}
    assert procfs.by_address_space([pid, os.getpid()]) == sorted([[pid], [os.getpid()]])


def test_a_zombie_has_no_memory() -> None:
    with subprocess.Popen(["true"]) as process:
        while (status := procfs.read_status(process.pid)) and not isinstance(status, Unread) and status.state != "Z":
            time.sleep(0.001)
        assert procfs.read_maps(process.pid) is Unread.NO_MEMORY
        assert pagemap.read_present(process.pid) is Unread.NO_MEMORY
        assert not isinstance(status, Unread)
        assert not status.is_kernel_thread


def test_a_process_that_ends_while_its_pagemap_is_open_has_nothing_more_to_show() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        while not (maps := procfs.read_maps(process.pid)) or isinstance(maps, Unread):
            time.sleep(0.001)
        with pagemap.Pagemap(process.pid) as reader:
            assert reader.entry(maps[0].start) is not None
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert reader.entry(maps[0].start) is None
            assert reader.words_at(np.array([maps[0].start], np.uint64)).tolist() == [0]


@pytest.mark.parametrize(
    ("number", "filename", "why"),
    [
        (errno.EACCES, "/proc/1/maps", Unread.REFUSED),
        (errno.EPERM, "/proc/kpagecount", Unread.REFUSED),
        (errno.ENOENT, "/proc/kpagecount", Unread.MISSING),
        (errno.ENOENT, "/proc/self/pagemap", Unread.MISSING),
        (errno.ENOENT, "/proc/999999999/maps", Unread.ENDED),
        (errno.ESRCH, None, Unread.ENDED),
    ],
)
def test_why_a_file_of_proc_cannot_be_read(number: int, filename: str | None, why: Unread) -> None:
    assert procfs.why_unread(OSError(number, os.strerror(number), filename)) is why


def test_processes_that_share_an_mm_are_grouped() -> None:
    with two_processes_of_one_mm() as (parent, child):
        assert procfs.by_address_space([os.getpid(), child, parent]) == sorted([[os.getpid()], sorted([parent, child])])
        assert (procfs.nr_sharing({parent}), procfs.nr_sharing({parent, child}), procfs.nr_sharing({os.getpid()})) == (
            1,
            0,
            0,
        )


def test_processes_without_an_mm_have_none_in_common() -> None:
    """Two zombies, and kernel threads: kcmp(2) finds their missing mms equal."""
    with subprocess.Popen(["true"]) as one, subprocess.Popen(["true"]) as other:
        while not all(procfs.read_maps(pid) is Unread.NO_MEMORY for pid in (one.pid, other.pid)):
            time.sleep(0.001)
        assert procfs.by_address_space([one.pid, other.pid]) == sorted([[one.pid], [other.pid]])
        assert procfs.nr_sharing({one.pid}) == 0
    assert procfs.nr_sharing({a_kernel_thread()}) == 0
