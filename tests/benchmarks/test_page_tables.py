"""The independent reader of benchmarks/page_tables.py, on memory that we have made; and the archive a guest boots from."""

import mmap
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from benchmarks.kernels import Archive

from benchmarks import page_tables
from rmaplab.host import pagemap
from rmaplab.host.pagemap import PM_PFN, Pagemap

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
PAGE, NR = 4096, 64


def test_anonymous_pages_are_found_and_others_are_not(tmp_path: Path) -> None:
    """Each third page was written; a page of a file and the zero page are none. A child that shares them adds nothing but a count."""
    if not pagemap.can_see_pfns() and not REQUIRE_ALL:
        pytest.skip("page frame numbers are hidden: needs CAP_SYS_ADMIN")
    (tmp_path / "file").write_bytes(bytes(PAGE))
    with (tmp_path / "file").open("rb") as file:
        of_file = mmap.mmap(file.fileno(), PAGE, prot=mmap.PROT_READ)
    memory = mmap.mmap(-1, NR * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(NR):
        if page % 3:
            assert memory[page * PAGE] == 0
        else:
            memory[page * PAGE] = 1
    assert of_file[0] == 0
    start = np.frombuffer(memory, np.uint8).ctypes.data
    with Pagemap(os.getpid()) as own:
        words = own.entries(start, start + NR * PAGE) & np.uint64(PM_PFN)
        (word,) = own.entries(at := np.frombuffer(of_file, np.uint8).ctypes.data, at + PAGE) & np.uint64(PM_PFN)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        read = page_tables.read([os.getpid(), child])
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)
    assert set(words[::3].tolist()) <= set(read.frames.tolist())
    assert not {int(word), int(words[1])} & set(read.frames.tolist())
    assert set(read.mapcounts[np.isin(read.frames, words[::3])].tolist()) == {2}
    assert len(np.unique(read.frames)) == len(read.frames)
    assert read.vmas.keys() == {os.getpid(), child}


def test_an_archive_is_cpio(tmp_path: Path) -> None:
    """Format newc: numbers in hex, names and data filled up to words, directories before what is in them, each entry once."""
    archive = Archive(tmp_path / "a")
    archive.add("/usr/bin/one", b"12345")
    archive.add("/usr/bin/one", b"again")
    archive.add("/usr/two", b"")
    archive.close()
    data, at, found = (tmp_path / "a").read_bytes(), 0, []
    while True:
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + numbers[11]]
        assert name.endswith(b"\0")
        body = at + (110 + numbers[11] + 3) // 4 * 4
        found.append((name[:-1].decode(), stat.S_IFMT(numbers[1]), data[body : body + numbers[6]]))
        at = body + (numbers[6] + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            break
    assert at == len(data)
    assert found == [
        ("usr", stat.S_IFDIR, b""), ("usr/bin", stat.S_IFDIR, b""), ("usr/bin/one", stat.S_IFREG, b"12345"),
        ("usr/two", stat.S_IFREG, b""), ("TRAILER!!!", 0, b""),
    ]  # fmt: skip
