"""A page of a file through a VMA or by its path: which frame, and nothing else happens to it."""

import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from rmaplab.host import pagemap, procfs
from rmaplab.host.file_page import FilePage, find_file_page, page_behind
from rmaplab.host.kpageflags import flag_names
from rmaplab.host.procfs import PAGE_BYTES, HostVma

from .test_who import hide_pfns


def vma_at(address: int) -> HostVma:
    maps = procfs.read_maps(os.getpid())
    assert not isinstance(maps, procfs.Unread)
    return next(vma for vma in maps if vma.start <= address < vma.end)


def address_of(memory: mmap.mmap) -> int:
    return int(np.frombuffer(memory, np.uint8).ctypes.data)


def uses(page: FilePage | None) -> set[str]:
    assert page
    assert page.pfn
    words = pagemap.read_per_pfn("kpageflags", [page.pfn])
    assert not isinstance(words, procfs.Unread)
    return {"REFERENCED", "ACTIVE"}.intersection(flag_names(int(words[0])))


@pytest.mark.usefixtures("pfns")
def test_to_ask_is_not_to_use(tmp_path: Path) -> None:
    """Three questions by path and three through a VMA: neither referenced nor moved to the active list, and no time of access."""
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * PAGE_BYTES))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        vma, before = vma_at(address_of(memory)), path.stat().st_atime_ns
        time.sleep(0.02)  # a time of access that was set would be another one
        first = uses(find_file_page(str(path), PAGE_BYTES))
        asked = [uses(find_file_page(str(path), PAGE_BYTES)) for _ in range(3)]
        asked += [uses(page_behind(os.getpid(), vma, 1)) for _ in range(3)]
        assert asked == [first] * 6
        assert "ACTIVE" not in first
        assert path.stat().st_atime_ns == before


@pytest.mark.usefixtures("pfns")
@pytest.mark.parametrize("name", ["deleted", "memfd"])
def test_a_file_without_a_name(name: str, tmp_path: Path) -> None:
    """The same frame as our own page table says; beyond its end there is none."""
    if name == "memfd":
        fd = os.memfd_create(name)
    else:
        fd = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT)
        (tmp_path / name).unlink()
    os.ftruncate(fd, 3 * PAGE_BYTES)
    with mmap.mmap(fd, 0) as memory:
        os.ftruncate(fd, 2 * PAGE_BYTES)
        memory[PAGE_BYTES] = 1
        address = address_of(memory)
        page, beyond = (page_behind(os.getpid(), vma_at(address), index) for index in (1, 2))
        with pagemap.Pagemap(os.getpid()) as own:
            entry = own.entry(address + PAGE_BYTES) or 0
    os.close(fd)
    assert page
    assert (page.pfn, page.cached, page.is_beyond_the_end) == (entry & pagemap.PM_PFN, True, False)
    assert page.is_shared_memory == (name == "memfd")
    assert beyond
    assert (beyond.pfn, beyond.cached, beyond.is_beyond_the_end) == (None, False, True)


def test_a_device_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """To open one may do anything; what it maps is no page of a file."""
    with Path("/dev/zero").open("rb") as file, mmap.mmap(file.fileno(), PAGE_BYTES, flags=mmap.MAP_PRIVATE) as memory:
        vma = vma_at(address_of(memory))
        assert vma.file
        monkeypatch.setattr(procfs, "open_proc", lambda name: pytest.fail(f"{name} was opened"))
        assert page_behind(os.getpid(), vma, 0) is None


@pytest.mark.usefixtures("pfns")
def test_without_pfns_the_page_is_not_even_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(PAGE_BYTES))
    hide_pfns(monkeypatch)
    page = find_file_page(str(tmp_path / "file"), 0)
    assert (page.cached, page.pfn) == (True, None)
