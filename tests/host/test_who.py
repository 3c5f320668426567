"""What `who` says where something is missing: BPF, PFNs, a file of /proc, a process; and what it refuses."""

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rmaplab.errors import UsageError
from rmaplab.host import pagemap, procfs
from rmaplab.host.file_page import find_file_page
from rmaplab.host.kernel_walk import KernelWalk
from rmaplab.host.place import find_place
from rmaplab.host.who import who_maps_address, who_maps_file, who_maps_pfn

from . import fork_tree as tree
from .conftest import REQUIRE_ALL, Family
from .test_procfs import a_kernel_thread, ended, two_processes_of_one_mm


def closed(monkeypatch: pytest.MonkeyPatch, *names: str, number: int = errno.EPERM) -> None:
    """Open files of /proc with these last names no more: a kernel that was locked down, or built without them."""
    really = procfs.open_proc

    def refuse(name: str) -> int:
        if name.rpartition("/")[2] in names:
            raise OSError(number, os.strerror(number), f"/proc/{name}")
        return really(name)

    monkeypatch.setattr(procfs, "open_proc", refuse)


# -- the ladder --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pfns")
def test_without_bpf_the_candidates_of_anonymous_memory_are_not_known(family: Family) -> None:
    """None and a reason: never an empty list. Those of a file are in everybody's maps."""
    place = find_place(family.pids["A"], f"{tree.PRIVATE:x}")
    answer = who_maps_address(place)
    assert (answer.candidates, answer.wasted, answer.index) == (None, None, None)
    assert any("not known: that takes BPF" in note for note in answer.notes)
    assert answer.as_json()["candidates"] is None
    of_file = who_maps_address(find_place(family.pids["A"], f"{tree.FILE_SHARED:x}"))
    assert of_file.wasted


@pytest.mark.usefixtures("pfns")
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOENT])
def test_without_kpageflags_and_kpagecount(family: Family, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Mappers and kind are still found; flags and count are not made up."""
    closed(monkeypatch, "kpageflags", "kpagecount", number=number)
    for region, kind in ((tree.PRIVATE, "anon"), (tree.SHARED, "shmem"), (tree.FILE_SHARED, "file")):
        address = region + 7 * tree.PAGE
        answer = who_maps_address(find_place(family.pids["A"], f"{address:x}"))
        (mappers,) = (mappers for mappers in family.pages.values() if (family.pids["A"], address) in mappers)
        assert sorted((visit.pid, visit.address) for visit in answer.mappers) == mappers
        assert (answer.kind, answer.flags, answer.mapcount, answer.exclusive) == (kind, None, None, None)
        assert any("flags and mapcount are not known" in note for note in answer.notes)


def hide_pfns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel does to a reader without CAP_SYS_ADMIN: bits 0 to 54 read 0 (pagemap_read)."""
    really = pagemap._read_words
    monkeypatch.setattr(pagemap, "_read_words", lambda *where: really(*where) & ~np.uint64(pagemap.PM_PFN))


def test_without_pfns_a_page_of_ones_own_says_whether_it_is_shared(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit 56: mapped exactly once, by the one who was asked about. If not, the count is not known."""
    hide_pfns(monkeypatch)
    alone = who_maps_address(find_place(family.pids["D"], f"{tree.PRIVATE + 4 * tree.PAGE:x}"))
    assert (alone.pfn, alone.mapcount, alone.kind) == (None, 1, "anon")
    assert alone.as_json()["flags"] is None
    assert any("exactly once" in note for note in alone.notes)
    shared = who_maps_address(find_place(family.pids["A"], f"{tree.PRIVATE:x}"))
    assert (shared.pfn, shared.mapcount, shared.candidates) == (None, None, None)
    assert any("more than once" in note for note in shared.notes)
    assert any("64 KiB mapped by others too" in note for note in shared.notes)
    zero = who_maps_address(find_place(family.pids["A"], f"{tree.ZERO:x}"))
    assert zero.kind == "zero"
    with pytest.raises(UsageError, match="CAP_SYS_ADMIN only: run as root, or ask by PID and address"):
        who_maps_pfn(1)


def test_without_pfns_pages_of_a_file_meet_by_inode_and_index(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_pfns(monkeypatch)
    for answer in (
        who_maps_address(find_place(family.pids["B"], f"{tree.FILE_PRIVATE:x}")),
        who_maps_file(find_file_page(str(family.file), 0)),
    ):
        found = sorted((visit.pid, visit.address) for visit in answer.mappers)
        assert found == family.pages["file page 0"]
        assert (answer.pfn, answer.kind, answer.index) == (None, "file", 0)
        assert answer.notes


def test_without_pagemap(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and what to do."""
    place = find_place(family.pids["A"], f"{tree.PRIVATE:x}")
    closed(monkeypatch, "pagemap")
    with pytest.raises(UsageError, match=r"a security module or a sandbox refuses it|root sees"):
        who_maps_address(place)
    closed(monkeypatch, "pagemap", number=errno.ENOENT)
    with pytest.raises(UsageError, match="CONFIG_PROC_PAGE_MONITOR"):
        who_maps_address(place)


@pytest.mark.usefixtures("pfns")
def test_what_is_missing_is_said(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that we cannot see maps the page too: the kernel counts its entry, and we say how many we have not found."""
    seen = sorted(set(family.pids.values()) - {family.pids["C"]})
    monkeypatch.setattr(procfs, "processes", lambda: seen)
    answer = who_maps_address(find_place(family.pids["A"], f"{tree.PRIVATE:x}"))
    assert (answer.mapcount, [visit.pid for visit in answer.mappers]) == (2, [family.pids["A"]])
    assert any(note.startswith("1 of 2 entries not found") for note in answer.notes)


@pytest.mark.usefixtures("pfns")
def test_outside_of_the_pid_namespace() -> None:
    """In a namespace of its own, a process sees itself only; libc is mapped by others, and the kernel counts them."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "rmaplab", "who"]
    try:
        run = subprocess.run([*command, "1", "libc.so.6"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        if REQUIRE_ALL:
            raise
        pytest.skip("no unshare")
    if "unshare" in run.stderr and not REQUIRE_ALL:
        pytest.skip(run.stderr)
    assert "entries not found: this PID namespace hides the processes outside of it" in run.stdout


@pytest.mark.usefixtures("pfns")
def test_processes_that_share_an_address_space_are_one_mapper() -> None:
    """CLONE_VM: one mm, one entry, mapcount 1; the one asked about is shown, and that there is another is said."""
    with two_processes_of_one_mm() as (parent, child):
        for pid in (parent, child):
            answer = who_maps_address(find_place(pid, "[stack]"))
            assert (answer.mapcount, [visit.pid for visit in answer.mappers]) == (1, [pid])
            assert any("CLONE_VM" in note for note in answer.notes)


@pytest.mark.usefixtures("pfns")
def test_processes_that_share_an_address_space_are_one_candidate(walk: KernelWalk) -> None:
    with two_processes_of_one_mm() as pids:
        for pid in pids:
            answer = who_maps_address(find_place(pid, "[stack]"), walk)
            assert [visit.pid for visit in answer.candidates or ()] == [pid]


# -- what makes no sense -----------------------------------------------------------------------------------------------


def test_a_process_that_ends_meanwhile() -> None:
    """Between finding the place and reading it, and as one of those that are searched."""
    with subprocess.Popen(["sleep", "100"]) as process:
        while not (maps := procfs.read_maps(process.pid)) or isinstance(maps, procfs.Unread):
            time.sleep(0.001)
        place = find_place(process.pid, f"{maps[0].start:x}")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(UsageError, match=rf"pid {process.pid} \(.*\) ended while it was read"):
        who_maps_address(place)


@pytest.mark.usefixtures("pfns")
def test_a_process_that_ends_while_all_are_searched(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, everybody = ended(), procfs.processes
    monkeypatch.setattr(procfs, "processes", lambda: sorted([gone, *everybody()]))
    answer = who_maps_address(find_place(family.pids["A"], f"{tree.PRIVATE:x}"))
    assert answer.mapcount == len(answer.mappers) == 2


def test_a_process_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"no process \d+: ps -e lists"):
        find_place(ended(), "1000")


def test_a_kernel_thread_has_no_address_space() -> None:
    with pytest.raises(UsageError, match="is a kernel thread: it has no address space"):
        find_place(a_kernel_thread(), "1000")


def test_the_vsyscall_page_has_no_entry_and_nobody_ended() -> None:
    """The maps file shows the gate VMA behind the end of user space (fs/proc/task_mmu.c), where pagemap reads nothing."""
    maps = procfs.read_maps(os.getpid())
    if isinstance(maps, procfs.Unread) or not any(vma.name == "[vsyscall]" for vma in maps):
        pytest.skip("this kernel shows no [vsyscall]: another architecture, or vsyscall=none")
    with pytest.raises(
        UsageError, match=rf"pid {os.getpid()} .*: this VMA has no page-table entries to read .*vsyscall"
    ):
        who_maps_address(find_place(os.getpid(), "[vsyscall]"))


def test_a_zombie_has_none_any_more() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(UsageError, match="has ended, its memory is gone"):
            find_place(process.pid, "1000")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("1000", "nothing is mapped at 0x1000 in pid .*: above "),
        ("0x7ffffffffffff000", "nothing is mapped at 0x7ffffffffffff000 in pid .*: the VMA below is "),
        (
            "[heep]",
            r"'\[heep\]' is no address in pid .*: write it in hex, such as [0-9a-f]+, or a name of .*'\[[a-z]+\]'$",
        ),
        ("", "'' is no address"),
        ("12345678901234567", "is no address"),
    ],
)
def test_an_address_that_is_none(address: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        find_place(os.getpid(), address)


def test_addresses_as_people_write_them() -> None:
    """Hex with and without 0x, in the middle of a page; a name, its first page that is there; a name and an offset."""
    maps = procfs.read_maps(os.getpid())
    assert not isinstance(maps, procfs.Unread)
    stack = next(vma for vma in maps if vma.name == "[stack]")
    page = stack.end - procfs.PAGE_BYTES
    for text in (f"{page:x}", f"{page:#x}", f"{page + 5:X}", f"[stack]+{page - stack.start + 9:x}"):
        assert find_place(os.getpid(), text)[2:] == (page, stack)
    place = find_place(os.getpid(), "[stack]")
    with pagemap.Pagemap(os.getpid()) as own:
        assert (own.entry(place.address) or 0) & pagemap.PM_PRESENT
        below = own.entries(stack.start, place.address)
    assert not (below & np.uint64(pagemap.PM_PRESENT)).any()
    library = next(vma for vma in maps if vma.name.endswith("/libc.so.6"))
    assert find_place(os.getpid(), "libc.so.6+3000").address == library.start + 0x3000
    assert find_place(os.getpid(), library.name + "+0").vma == library


@pytest.mark.usefixtures("pfns")
@pytest.mark.parametrize("pfn", [1 << 45, (1 << 52) + 5, 1 << 70, -1])
def test_a_page_frame_there_is_not(pfn: int) -> None:
    with pytest.raises(UsageError, match=r"there is no page frame .* on this machine: the last one is 0x"):
        who_maps_pfn(pfn)


@pytest.mark.parametrize(
    ("path", "offset", "says"),
    [
        ("/nonexistent", 0, "No such file or directory"),
        ("/proc", 0, "is no regular file"),
        ("/dev/null", 0, "is no regular file"),
        (__file__, 1 << 40, "is beyond the end of"),
        (__file__, -1, "is beyond the end of|before"),
    ],
)
def test_a_page_of_a_file_there_is_not(path: str, offset: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        find_file_page(path, offset)


def test_a_page_that_is_not_in_the_page_cache(tmp_path: os.PathLike[str]) -> None:
    """A hole of a sparse file that nobody has read: nothing to map, and asking does not read it in."""
    path = os.path.join(tmp_path, "sparse")  # noqa: PTH118
    with open(path, "wb") as file:  # noqa: PTH123
        file.truncate(16 * procfs.PAGE_BYTES)
    before = os.stat(path)  # noqa: PTH116
    for _ in range(2):
        page = find_file_page(path, 5 * procfs.PAGE_BYTES)
        assert (page.cached, page.pfn, page.pgoff) == (False, None, 5)
        answer = who_maps_file(page)
        assert (answer.mappers, answer.candidates) == ([], [])
        assert any("not in the page cache" in note for note in answer.notes)
    assert os.stat(path).st_atime_ns == before.st_atime_ns  # noqa: PTH116


@pytest.mark.usefixtures("pfns")
def test_a_huge_page_of_ones_own_is_exclusive_on_all_its_pages() -> None:
    """With a PMD entry the mark is on the first page of the folio (folio_add_new_anon_rmap), and it speaks for all."""
    size = 2 << 20
    memory = np.frombuffer(mmap.mmap(-1, 2 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    start = -(-memory.ctypes.data // size) * size
    libc = ctypes.CDLL(None)
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)
    offset = start - memory.ctypes.data
    memory[offset : offset + size] = 1
    answer = who_maps_address(find_place(os.getpid(), f"{start + 5 * tree.PAGE:x}"))
    if not answer.huge and not REQUIRE_ALL:
        pytest.skip("this machine gave no transparent huge page")
    assert answer.folio == ((answer.pfn or 0) - 5, 512)
    assert (answer.huge, answer.mapcount, answer.exclusive) == (True, 1, True)
