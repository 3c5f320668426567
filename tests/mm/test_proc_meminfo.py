"""/proc/meminfo: names and form of the day, and numbers that agree with a recount from page tables up.

parent  [a a a a ... 300 pages]  a file [f f f f] mapped by both     tmpfs [s s s]
child   the same, 100 written
"""

from __future__ import annotations

import numpy as np
import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.kernels.system import System
from rmaplab.machine.frames import PG_ANON, ZERO_PFN
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.mm.proc_meminfo import MeminfoEra, meminfo_line
from rmaplab.objects.flags import MAP_SHARED
from rmaplab.units import PAGE_SIZE

from .tools import pressure

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1", "2.6.7", "6.18")
FORMATS = ("i386", "i386-pae", "x86-64")
TODAY = ("6.18",)
KB = 4  # a page
CALLS = 60


def small(kernel: str, paging: str = "x86-64") -> System:
    return rmaplab.boot(kernel, ram="1G", swap="64M", paging=paging)


def busy(system: System) -> tuple[Task, Task]:
    """The drawing."""
    parent = system.spawn()
    anonymous = parent.mmap(300 * PAGE_SIZE)
    parent.touch(anonymous, 300 * PAGE_SIZE, write=True)
    far = parent.mmap(PAGE_SIZE, address=anonymous - (64 << 20))
    parent.touch(far, PAGE_SIZE)  # the zero page
    for on_disk, nr in ((True, 4), (False, 3)):
        fd = parent.open(system.new_file(b"x" * nr * PAGE_SIZE, on_disk=on_disk), writable=True)
        at = parent.mmap(nr * PAGE_SIZE, flags=MAP_SHARED, file=fd)
        parent.touch(at, nr * PAGE_SIZE, write=True)
        parent.pwrite(fd, b"y", 0)
    child = parent.fork()
    child.touch(anonymous, 100 * PAGE_SIZE, write=True)
    return parent, child


def formats(kernel: str) -> tuple[str, ...]:
    return ("x86-64",) if kernel in TODAY else FORMATS


@pytest.mark.parametrize(("kernel", "paging"), [(k, p) for k in KERNELS for p in formats(k)])
def test_numbers_are_those_of_a_recount(kernel: str, paging: str) -> None:
    """Pages that are mapped, tables, the page cache, promises, all from the other end."""
    system = small(kernel, paging)
    at_boot = system.meminfo()
    parent, child = busy(system)
    found, machine, k = system.meminfo(), system.machine, system.kernel
    read = [read_page_tables(machine, task.mm.pgd) for task in (parent, child) if task.mm]
    pages = np.unique(np.concatenate([entries.pfns for entries, _ in read]))
    pages = pages[pages != ZERO_PFN]
    anonymous = int((machine.frames.flags[pages] & PG_ANON != 0).sum())
    leaves = sum(np.unique(entries.addresses >> (12 + machine.paging.bits)).size for entries, _ in read)
    assert found["MemTotal"] == at_boot["MemTotal"]
    assert found["Cached"] - at_boot["Cached"] == 7 * KB
    assert found["MemFree"] == machine.allocator.nr_free * KB
    assert found["SwapTotal"] == found["SwapFree"] == (16384 - 1) * KB
    if kernel in TODAY:
        tables = k.tables_at_birth * 2 + sum(len(tables) for _, tables in read)
        assert (found["AnonPages"], found["Mapped"]) == (anonymous * KB, (pages.size - anonymous) * KB)
        assert (found["Shmem"], found["PageTables"], found["KernelStack"]) == (3 * KB, tables * KB, 2 * 16)
    elif kernel != "2.4.21":
        assert pages.size == 300 + 100 + 7
        assert (found["Mapped"], found["PageTables"]) == (pages.size * KB, leaves * KB)
        assert found["Dirty"] == 1 * KB  # the page that was written to with pwrite; entries know of the others
        assert found["Committed_AS"] == k.committed_pages * KB
        assert found["Slab"] == sum(cache.bytes for cache in machine.caches.values()) >> 10
    if kernel not in TODAY:
        assert found["HighTotal"] + found["LowTotal"] == found["MemTotal"]
        assert found["HighFree"] + found["LowFree"] == found["MemFree"]
        assert bool(found["HighTotal"]) == (paging != "x86-64")
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_goes_back_to_what_it_was(kernel: str) -> None:
    """When everybody has exited nothing is mapped for them. Files keep their pages in the cache, and one in memory what it was promised."""
    system = small(kernel)
    before = system.meminfo()
    parent, child = busy(system)
    child.exit(0)
    parent.wait()
    parent.exit(0)
    after = system.meminfo()
    for name in {"Mapped", "AnonPages", "PageTables", "KernelStack"} & after.keys():
        assert after[name] == before[name], name
    assert (before["Cached"], after["Cached"]) == (0, 7 * KB)
    assert after.get("Committed_AS", 3 * KB) == 3 * KB


@pytest.mark.parametrize(("kernel", "seed"), [("2.6.2", 3), ("2.6.5-rc1", 4), ("2.6.5-rc1-aa1", 5), ("2.6.7", 6)])
def test_under_pressure(kernel: str, seed: int) -> None:
    """After each of many calls: slots that are used, the swap cache, pages on lists and those that are free are all there is; MemTotal never moves."""
    totals, used = set[int](), set[int]()

    def look(system: System) -> None:
        k, found = system.kernel, system.meminfo()
        totals.add(found["MemTotal"])
        used.add(found["SwapTotal"] - found["SwapFree"])
        assert found["SwapTotal"] - found["SwapFree"] == k.swap.nr_used * KB
        assert found["SwapCached"] == len(k.swap.cached) * KB <= found["SwapTotal"] - found["SwapFree"]
        assert found["Mapped"] + found["MemFree"] + found["PageTables"] + found["Slab"] <= found["MemTotal"]
        assert found["Active"] + found["Inactive"] <= found["MemTotal"] - found["MemFree"]

    pressure(kernel, seed, CALLS, look)
    assert len(totals) == 1
    assert max(used)


def test_in_2_4_there_was_a_table_above() -> None:
    """Bytes, and eight places for what has ten: 2.4.27 fs/proc/proc_misc.c."""
    system = rmaplab.boot("2.4.21", ram="64M", swap="64M", paging="i386", boot_use="4M")
    task = system.spawn()
    task.pread(task.open(system.new_file(b"x" * 4 * PAGE_SIZE)), 4 * PAGE_SIZE, 0)
    lines = system.proc_meminfo().splitlines()
    found = system.meminfo()
    used = found["MemTotal"] - found["MemFree"]
    assert lines[:3] == [
        "        total:    used:    free:  shared: buffers:  cached:",
        f"Mem:  {found['MemTotal'] * 1024} {used * 1024:8} {found['MemFree'] * 1024}        0        0    16384",
        "Swap: 67104768        0 67104768",
    ]
    assert lines[3] == f"MemTotal:     {found['MemTotal']:8} kB"
    assert [line.split(":")[0] for line in lines[3:]] == [
        "MemTotal", "MemFree", "MemShared", "Buffers", "Cached", "SwapCached", "Active", "Inactive", "HighTotal", "HighFree", "LowTotal", "LowFree",
        "SwapTotal", "SwapFree",
    ]  # fmt: skip


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.7"])
def test_the_names_of_2_6(kernel: str) -> None:
    """meminfo_read_proc's, but for Vmalloc*; ReverseMaps is not among them any more."""
    system = small(kernel)
    assert list(system.meminfo()) == [
        "MemTotal", "MemFree", "Buffers", "Cached", "SwapCached", "Active", "Inactive", "HighTotal", "HighFree", "LowTotal", "LowFree",
        "SwapTotal", "SwapFree", "Dirty", "Writeback", "Mapped", "Slab", "Committed_AS", "PageTables",
    ]  # fmt: skip
    lines = system.proc_meminfo().splitlines()
    assert "Dirty:               0 kB" in lines
    assert {len(line) for line in lines} == {25}


def test_lines_of_today() -> None:
    """As a 6.18.44 prints them: two places more, and numbers that are no sizes."""
    today = MeminfoEra.LINUX_6_18
    assert meminfo_line("MemTotal", 24684096, today) == "MemTotal:       24684096 kB\n"
    assert meminfo_line("HugePages_Total", 0, today) == "HugePages_Total:       0\n"
    assert meminfo_line("Hugepagesize", 2048, today) == "Hugepagesize:       2048 kB\n"
