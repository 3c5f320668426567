"""What a process maps, VMA by VMA, against smaps: another reader of the same page tables, the kernel's own."""

import ctypes
import mmap
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rmaplab.errors import UsageError
from rmaplab.host import procfs
from rmaplab.host.areas import areas_of
from rmaplab.host.place import find_pid, find_place
from rmaplab.host.procfs import PAGE_BYTES

from . import fork_tree as tree
from .conftest import Family
from .test_procfs import a_kernel_thread, ended


def test_counts_are_those_of_smaps(family: Family) -> None:
    """Pages in memory, anonymous ones, those mapped more than once; the zero page is none."""
    for pid in family.pids.values():
        for area in areas_of(pid).areas:
            smaps = procfs.read_smaps(pid, area.vma.start)
            assert isinstance(smaps, dict)
            if area.vma.start < tree.BASE or area.vma.start >= tree.BASE + (1 << 30):
                continue
            assert area.present * PAGE_BYTES == smaps["Rss"]
            assert area.anonymous * PAGE_BYTES == smaps["Anonymous"]
            assert area.shared * PAGE_BYTES == smaps["Shared_Clean"] + smaps["Shared_Dirty"]
            assert area.swapped * PAGE_BYTES == smaps["Swap"]


def test_all_vmas_are_there_and_the_page_that_was_written_counts_once() -> None:
    memory = np.frombuffer(mmap.mmap(-1, 8 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    memory[3 * PAGE_BYTES] = 1
    ctypes.string_at(memory.ctypes.data + 5 * PAGE_BYTES, 1)
    address = int(memory.ctypes.data)
    found = areas_of(os.getpid())
    maps = procfs.read_maps(os.getpid())
    assert not isinstance(maps, procfs.Unread)
    assert {vma.start for vma in maps}.issuperset(area.vma.start for area in found.areas if area.vma.inode)
    assert find_place(os.getpid(), f"{address:x}-{address + 8 * PAGE_BYTES:x}").address == address + 3 * PAGE_BYTES
    assert found.as_json()["pid"] == os.getpid()


@pytest.mark.parametrize("pid", [ended, a_kernel_thread])
def test_who_has_no_vmas(pid: object) -> None:
    with pytest.raises(UsageError, match=r"no process|is a kernel thread"):
        areas_of(pid())  # type: ignore[operator]


def _wait_for_arguments(pid: int) -> None:
    """Of a process that Popen has started: exec closes our pipe before it has any."""
    while not Path(f"/proc/{pid}/cmdline").read_bytes():
        pass


def test_a_name_instead_of_a_pid(tmp_path: os.PathLike[str]) -> None:
    """By comm or by the file name of the first argument; one is found, several are listed, a near miss is named. Never ourselves."""
    name = f"zoo{os.getpid()}"
    with subprocess.Popen([name, "100"], executable="/bin/sleep") as one:
        try:
            _wait_for_arguments(one.pid)
            assert find_pid(name) == one.pid
            with pytest.raises(UsageError, match=rf"no process is called '{name}s': did you mean '{name}'"):
                find_pid(f"{name}s")
            with subprocess.Popen([f"/nowhere/{name}", "100"], executable="/bin/sleep") as other:
                try:
                    _wait_for_arguments(other.pid)
                    with pytest.raises(
                        UsageError, match=rf"2 processes are called '{name}': .* {one.pid}, {other.pid}"
                    ):
                        find_pid(name)
                finally:
                    other.kill()
        finally:
            one.kill()
    assert find_pid("self") == os.getpid()
    assert find_pid("0x10") == 16
