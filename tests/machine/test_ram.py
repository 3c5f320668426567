"""RAM: what the host sees of it."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.frames import PG_TABLE
from rmaplab.machine.ram import Ram
from rmaplab.units import PAGE_SIZE

MIB = 1 << 20
LINUX = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))


def resident_bytes() -> int:
    """The resident set of this process: the second field of /proc/self/statm, in pages (proc(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_the_host_commits_what_is_written_and_nothing_else() -> None:
    """A box of 8 GiB costs the host nothing; each page written costs one page, wherever it lies; reading costs nothing."""
    before = resident_bytes()
    ram = Ram((8 << 30) // PAGE_SIZE)
    made = resident_bytes()
    assert made - before < MIB

    #   0            1 GiB           2 GiB           3 GiB            8 GiB
    #   |x...........|x..............|x..............|x.......  ......|      x: one byte written, 2048 times in all
    ram.bytes[:: ram.nr_frames // 2048, 17] = 1
    written = resident_bytes()
    assert 8 * MIB <= written - made < 9 * MIB

    assert not ram.bytes[1:1024].any()
    assert resident_bytes() - written < MIB


@pytest.mark.parametrize(("word_bytes", "value"), [(4, 0xFEDC_BA98), (8, 0x0FED_CBA9_8765_4321)])
def test_words_and_bytes_are_the_same_memory(word_bytes: int, value: int) -> None:
    """The word at physical address a is the little-endian number in bytes a, a + 1 ... (i386, x86-64)."""
    ram = Ram(4)
    physical = 2 * PAGE_SIZE + 5 * word_bytes
    ram.words(word_bytes)[physical // word_bytes] = value
    assert ram.bytes[2, 5 * word_bytes : 6 * word_bytes].tobytes() == value.to_bytes(word_bytes, "little")
    assert ram.bytes.sum() == sum(value.to_bytes(word_bytes, "little"))


def faults(ram: Ram, pfns: range) -> int:
    """How often the host was asked for a page while one word of each frame was written."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ram.words4[pfns.start * 1024 : pfns.stop * 1024 : 1024] = 7
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


class Advised:
    """A mapping whose advice is written down, and taken."""

    def __init__(self, ram: Ram, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mapping, self.asked = ram._mapping, list[tuple[int, int]]()
        monkeypatch.setattr(ram, "_mapping", self)

    def madvise(self, advice: int, start: int, length: int) -> None:
        self.asked.append((start // PAGE_SIZE, length // PAGE_SIZE))
        self.mapping.madvise(advice, start, length)


def test_nobody_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come and go, and are page tables again."""
    ram = Ram(256)
    host = Advised(ram, monkeypatch)
    for _ in range(3):
        ram.expect(np.arange(64, 128))
        ram.expect(np.arange(128, 136))
        ram.expect(np.arange(200, 204))
    assert host.asked == [(64, 64), (128, 8)]


def test_page_tables_of_a_fork_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 leaf tables, a burst, at a time, where free memory is in one piece."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="512M", paging="i386-pae")
    task = system.spawn()
    task.touch(task.mmap("128M"), "128M", write=True)
    host = Advised(system.machine.ram, monkeypatch)
    before = system.machine.nr_tables
    task.fork()
    assert system.machine.nr_tables - before > 64
    assert {nr for _, nr in host.asked} == {32}
    flags = system.machine.frames.flags
    assert all((flags[first : first + nr] == PG_TABLE).all() for first, nr in host.asked)


@pytest.mark.skipif(LINUX < (5, 14), reason="Linux before 5.14 has no MADV_POPULATE_WRITE")
def test_what_is_expected_is_there_and_nothing_else_is() -> None:
    """Frames that lie one behind the other come at once, as zeros; those beside them do not, nor do a few, nor what lies about."""
    #   0        64          128       192       256
    #   |........|xxxxxxxxxxx|.........|x.x.x.x..|      x: expected
    ram = Ram(4 * MIB // PAGE_SIZE)
    ram.expect(np.arange(64, 128))
    ram.expect(np.arange(192, 256, 2))
    ram.expect(np.arange(4))
    assert not ram.bytes[64:128].any()
    assert faults(ram, range(64, 128)) < 16
    for others in range(64), range(128, 256):
        assert faults(ram, others) >= len(others)


def test_a_host_that_refuses_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 5.14 knows no such advice: EINVAL, and all goes on as it would without."""
    monkeypatch.setattr("rmaplab.machine.ram.MADV_POPULATE_WRITE", 9999)
    ram = Ram(256)
    ram.expect(np.arange(64, 128))
    monkeypatch.undo()
    ram.expect(np.arange(128, 192))
    assert faults(ram, range(64, 192)) >= 128


def test_what_was_written_stays_when_it_is_expected() -> None:
    """Once or again; and a frame at the very end."""
    ram = Ram(64)
    ram.bytes[:] = 3
    for _ in range(2):
        ram.expect(np.arange(32, 64))
    assert (ram.bytes == 3).all()
