"""Whatever tasks do to their memory, it reads back, nobody sees what is not his, and every mapping is found.

A naive model says what must be: an address space is a list of areas (start, end, writable, which group of pages) and a
dictionary of the pages that were ever written; everything else reads as zeros.

    model     areas   [====rw====)      [===r===)              pages   {0x40003: b"...", 0x40007: b"..."}
    kernel    VMAs, page tables, frames, chains or anon_vmas in the simulated RAM

After every step the two are compared to the last byte and the last VMA, and check() compares every walk with the judge.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import TestCase

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

import rmaplab
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE, VM_WRITE
from rmaplab.units import PAGE_SIZE

ZEROS = bytes(PAGE_SIZE)
MOST_TASKS = 6


@dataclass
class Area:
    """[start, end) in pages. `group` names the pages that can be shared with this area: None before its first write."""

    start: int
    end: int
    writable: bool
    group: int | None = None


@dataclass
class Space:
    """What an address space must look like. It merges as history.md 4.1 (any groups) or 4.2 (equal, or one is None)."""

    groups_matter: bool
    areas: list[Area] = field(default_factory=list)
    pages: dict[int, bytearray] = field(default_factory=dict)

    def area(self, page: int) -> Area | None:
        return next((a for a in self.areas if a.start <= page < a.end), None)

    def is_free(self, start: int, end: int) -> bool:
        return all(a.end <= start or end <= a.start for a in self.areas)

    def map(self, start: int, end: int, *, writable: bool) -> None:
        before = next((a for a in self.areas if a.end == start and a.writable == writable), None)
        after = next((a for a in self.areas if a.start == end and a.writable == writable), None)
        if (
            before
            and after
            and (not self.groups_matter or None in (before.group, after.group) or before.group == after.group)
        ):
            self.areas.remove(after)
            before.end = after.end
            before.group = after.group if before.group is None else before.group
        elif before:
            before.end = end
        elif after:
            after.start = start
        else:
            self.areas.append(Area(start, end, writable))
            self.areas.sort(key=lambda a: a.start)

    def unmap(self, start: int, end: int) -> None:
        left = [replace(a, end=min(a.end, start)) for a in self.areas if a.start < start]
        right = [replace(a, start=max(a.start, end)) for a in self.areas if a.end > end]
        whole = [a for a in self.areas if a.end <= start or a.start >= end]
        cut = [a for a in left + right if a not in whole]
        self.areas = sorted(whole + cut, key=lambda a: a.start)
        self.pages = {page: data for page, data in self.pages.items() if not start <= page < end}

    def fault(self, start: int, end: int, *, write: bool) -> int | None:
        """The first byte of [start, end) that may not be touched."""
        for page in range(start // PAGE_SIZE, -(-end // PAGE_SIZE)):
            area = self.area(page)
            if area is None or (write and not area.writable):
                return max(start, page * PAGE_SIZE)
        return None

    def store(self, start: int, data: bytes) -> None:
        for i in range(len(data)):
            page, offset = divmod(start + i, PAGE_SIZE)
            self.pages.setdefault(page, bytearray(PAGE_SIZE))[offset] = data[i]

    def load(self, start: int, length: int) -> bytes:
        first, end = start // PAGE_SIZE, -(-(start + length) // PAGE_SIZE)
        whole = b"".join(bytes(self.pages.get(page, ZEROS)) for page in range(first, end))
        return whole[start - first * PAGE_SIZE :][:length]

    def copy(self) -> Space:
        return Space(
            self.groups_matter, [replace(a) for a in self.areas], {p: bytearray(b) for p, b in self.pages.items()}
        )


@dataclass(eq=False)
class Process:
    """A task and what it must be like. `code` is set once it has exited."""

    task: rmaplab.Task
    space: Space
    parent: Process | None = None
    children: list[Process] = field(default_factory=list)
    code: int | None = None


LENGTHS = st.integers(1, 40)  # pages
PLACES = st.tuples(st.integers(0, 2), st.integers(0, 63))  # a neighbourhood, a page in it
BYTES = st.integers(0, PAGE_SIZE - 1)


class AddressSpaces(RuleBasedStateMachine):
    """Rules are system calls and accesses; expectations come from `Space`."""

    kernel: str
    paging: str
    tasks: Bundle[Process] = Bundle("tasks")

    @initialize(target=tasks, line=st.sampled_from([32, 64, 128]), highpte=st.booleans())
    def boot(self, line: int, highpte: bool) -> Process:
        self.system = rmaplab.boot(self.kernel, ram="64M", paging=self.paging, l1_cache_bytes=line, highpte=highpte)
        self.machine = self.system.machine
        self.free_at_boot = self.machine.allocator.nr_unused
        self.task_size = self.machine.paging.task_size
        #   three neighbourhoods of 64 pages, so that mappings meet:
        #   around the first address mmap gives out, across a border of upper page tables, at the end of all addresses
        base, gib = self.machine.paging.unmapped_base, 1 << 30
        self.places = [base - 16 * PAGE_SIZE, base // gib * gib + gib - 32 * PAGE_SIZE, self.task_size - 48 * PAGE_SIZE]
        self.alive: list[Process] = []
        self.nr_groups = 0
        self.random = random.Random(line)
        return self._started(Process(self.system.spawn(), Space(self.kernel == "2.6.5-rc1-aa1")))

    # -- mapping ---------------------------------------------------------------------------------------------------

    @rule(process=tasks, nr_pages=LENGTHS, writable=st.booleans())
    def mmap_anywhere(self, process: Process, nr_pages: int, writable: bool) -> None:
        start = self._mmap(process, 0, nr_pages, writable, MAP_PRIVATE | MAP_ANONYMOUS)
        assert process.space.is_free(start, start + nr_pages)
        process.space.map(start, start + nr_pages, writable=writable)

    @rule(process=tasks, place=PLACES, nr_pages=LENGTHS, writable=st.booleans())
    def mmap_hint(self, process: Process, place: tuple[int, int], nr_pages: int, writable: bool) -> None:
        hint = self._address(place)
        start = self._mmap(process, hint, nr_pages, writable, MAP_PRIVATE | MAP_ANONYMOUS)
        wish = hint // PAGE_SIZE
        assert process.space.is_free(start, start + nr_pages)
        if process.space.is_free(wish, wish + nr_pages) and hint + nr_pages * PAGE_SIZE <= self.task_size:
            assert start == wish
        process.space.map(start, start + nr_pages, writable=writable)

    @rule(process=tasks, place=PLACES, nr_pages=LENGTHS, writable=st.booleans())
    def mmap_fixed(self, process: Process, place: tuple[int, int], nr_pages: int, writable: bool) -> None:
        order = self._address(place)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        if order + nr_pages * PAGE_SIZE > self.task_size:
            with pytest.raises(rmaplab.SyscallError, match="mmap") as error:
                self._mmap(process, order, nr_pages, writable, flags)
            assert error.value.name == "ENOMEM"
            return
        start = self._mmap(process, order, nr_pages, writable, flags)
        assert start * PAGE_SIZE == order
        process.space.unmap(start, start + nr_pages)
        process.space.map(start, start + nr_pages, writable=writable)

    @rule(process=tasks, place=PLACES, nr_pages=LENGTHS)
    def munmap(self, process: Process, place: tuple[int, int], nr_pages: int) -> None:
        address = self._address(place)
        if address + nr_pages * PAGE_SIZE > self.task_size:
            with pytest.raises(rmaplab.SyscallError, match="munmap") as error:
                process.task.munmap(address, nr_pages * PAGE_SIZE)
            assert error.value.name == "EINVAL"
            return
        process.task.munmap(address, nr_pages * PAGE_SIZE)
        process.space.unmap(address // PAGE_SIZE, address // PAGE_SIZE + nr_pages)

    # -- accesses --------------------------------------------------------------------------------------------------

    @rule(process=tasks, place=PLACES, offset=BYTES, length=st.integers(1, 20 * PAGE_SIZE), write=st.booleans())
    def touch(self, process: Process, place: tuple[int, int], offset: int, length: int, write: bool) -> None:
        start = self._address(place) + offset
        bad = process.space.fault(start, start + length, write=write)
        self._faults_at(bad, lambda: process.task.touch(start, length, write=write))
        if write:
            self._written(process.space, start, start + length if bad is None else bad)

    @rule(process=tasks, place=PLACES, offset=BYTES, length=st.integers(1, 3 * PAGE_SIZE), letter=st.integers(1, 255))
    def write(self, process: Process, place: tuple[int, int], offset: int, length: int, letter: int) -> None:
        start = self._address(place) + offset
        data = bytes((letter + i) & 0xFF for i in range(length))
        bad = process.space.fault(start, start + length, write=True)
        self._faults_at(bad, lambda: process.task.write(start, data))
        end = start + length if bad is None else bad
        self._written(process.space, start, end)
        process.space.store(start, data[: end - start])

    @rule(process=tasks, place=PLACES, offset=BYTES, length=st.integers(1, 3 * PAGE_SIZE))
    def read(self, process: Process, place: tuple[int, int], offset: int, length: int) -> None:
        self._read(process, self._address(place) + offset, length)

    # -- processes -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.alive) < MOST_TASKS)
    @rule(target=tasks)
    def spawn(self) -> Process:
        return self._started(Process(self.system.spawn(), Space(self.kernel == "2.6.5-rc1-aa1")))

    @precondition(lambda self: len(self.alive) < MOST_TASKS)
    @rule(target=tasks, process=tasks)
    def fork(self, process: Process) -> Process:
        return self._started(Process(process.task.fork(), process.space.copy(), process))

    @precondition(lambda self: len(self.alive) < MOST_TASKS)
    @rule(target=tasks, process=tasks, granted=st.integers(0, 60))
    def fork_short_of_memory(self, process: Process, granted: int) -> Process | MultipleResults[Process]:
        """A fork whose allocation number `granted` + 1 fails: nothing has happened, or it was never asked for."""
        allocator = self.machine.allocator
        allocator.fail_after = granted
        child = None
        with suppress(rmaplab.SyscallError):
            child = process.task.fork()
        assert (child is None) == (allocator.fail_after is None)  # the injector disarms itself when it fires
        allocator.fail_after = None
        return multiple() if child is None else self._started(Process(child, process.space.copy(), process))

    @rule(process=consumes(tasks), code=st.integers(0, 3))
    def exit(self, process: Process, code: int) -> None:
        self._exit(process, code)

    @rule(process=tasks)
    def wait(self, process: Process) -> None:
        zombies = {child.task.pid: child for child in process.children if child.code is not None}
        if not process.children:
            with pytest.raises(rmaplab.SyscallError) as error:
                process.task.wait()
            assert error.value.name == "ECHILD"
        elif not zombies:
            with pytest.raises(rmaplab.UsageError):
                process.task.wait()
        else:
            pid, code = process.task.wait()
            assert zombies[pid].code == code
            process.children.remove(zombies[pid])

    # -- what must hold after every step ---------------------------------------------------------------------------

    @invariant()
    def everything_adds_up(self) -> None:
        self.system.check()

    @invariant()
    def the_kernel_is_as_the_model(self) -> None:
        groups: dict[int, Any] = {}
        for process in self.alive:
            mm, space = process.task.mm, process.space
            assert mm is not None
            vmas = [(v.start // PAGE_SIZE, v.end // PAGE_SIZE, bool(v.flags & VM_WRITE)) for v in mm.vmas]
            assert vmas == [(a.start, a.end, a.writable) for a in space.areas]
            if space.groups_matter:
                for vma, area in zip(mm.vmas, space.areas, strict=True):
                    assert vma.pgoff == area.start  # "index starts equal to the virtual page number", history.md 1.5.2
                    assert (vma.anon_vma is None) == (area.group is None)
                    if area.group is not None:
                        assert groups.setdefault(area.group, vma.anon_vma) is vma.anon_vma
            present, _ = read_page_tables(self.machine, mm.pgd)
            seen = dict(zip((present.addresses // PAGE_SIZE).tolist(), present.pfns.tolist(), strict=True))
            assert space.pages.keys() <= seen.keys()
            for page, pfn in seen.items():
                assert self.machine.ram.bytes[pfn].tobytes() == space.pages.get(page, ZEROS)
        assert len(set(map(id, groups.values()))) == len(groups)

    @invariant()
    def a_random_page_reads_as_the_model_says(self) -> None:
        if self.alive:
            place = self.random.randrange(3), self.random.randrange(64)
            self._read(self.random.choice(self.alive), self._address(place) + self.random.randrange(PAGE_SIZE), 100)

    def teardown(self) -> None:
        if not hasattr(self, "system"):
            return
        for process in self.alive:
            for area in process.space.areas:
                self._read(process, area.start * PAGE_SIZE, (area.end - area.start) * PAGE_SIZE)
        self.system.check()
        for process in list(self.alive):
            self._exit(process, 0)
        self.system.check()
        kernel, machine = self.system.kernel, self.machine
        assert not kernel.tasks
        assert not kernel.mms
        assert machine.nr_tables == 0
        assert kernel.committed_pages + kernel.committed_drift == 0
        assert kernel.design.tracked().size == 0
        for cache in machine.caches.values():
            assert cache.nr_objects == 0, cache.name
            cache.shrink()
        assert machine.allocator.nr_unused == self.free_at_boot

    # -- inside ----------------------------------------------------------------------------------------------------

    def _address(self, place: tuple[int, int]) -> int:
        return self.places[place[0]] + place[1] * PAGE_SIZE

    def _started(self, process: Process) -> Process:
        if process.parent is not None:
            process.parent.children.append(process)
        self.alive.append(process)
        return process

    def _exit(self, process: Process, code: int) -> None:
        process.task.exit(code)
        self.alive.remove(process)
        process.code = code
        for child in process.children:
            child.parent = None
        expected = {p.task.pid for p in self.alive} | {c.task.pid for p in self.alive for c in p.children}
        assert self.system.kernel.tasks.keys() == expected

    def _mmap(self, process: Process, address: int, nr_pages: int, writable: bool, flags: int) -> int:
        prot = PROT_READ | PROT_WRITE if writable else PROT_READ
        got = process.task.mmap(nr_pages * PAGE_SIZE, prot, flags, address)
        assert got % PAGE_SIZE == 0
        assert 0 < got <= self.task_size - nr_pages * PAGE_SIZE
        return got // PAGE_SIZE

    def _written(self, space: Space, start: int, end: int) -> None:
        """The first write into an area names its group of pages; fork and split hand the name on."""
        for page in range(start // PAGE_SIZE, -(-end // PAGE_SIZE)) if start < end else ():
            area = space.area(page)
            assert area is not None
            if area.group is None:
                self.nr_groups += 1
                area.group = self.nr_groups
            space.pages.setdefault(page, bytearray(PAGE_SIZE))

    def _read(self, process: Process, start: int, length: int) -> None:
        bad = process.space.fault(start, start + length, write=False)
        if bad is None:
            assert process.task.read(start, length) == process.space.load(start, length)
        else:
            self._faults_at(bad, lambda: process.task.read(start, length))

    @staticmethod
    def _faults_at(bad: int | None, access: Any) -> None:
        if bad is None:
            access()
            return
        with pytest.raises(rmaplab.SegmentationFault) as fault:
            access()
        assert fault.value.address == bad


def case(kernel: str, paging: str) -> type[TestCase]:
    """The state machine on one kernel and one page-table format, as a test case."""
    machine = type(f"AddressSpaces {kernel} {paging}", (AddressSpaces,), {"kernel": kernel, "paging": paging})
    test_case: type[TestCase] = machine.TestCase  # type: ignore[attr-defined]
    test_case.settings = settings(  # type: ignore[attr-defined]
        max_examples=120, stateful_step_count=50, deadline=None, derandomize=True, database=None
    )
    return test_case


Test262I386 = case("2.6.2", "i386")
Test262Pae = case("2.6.2", "i386-pae")
Test262X8664 = case("2.6.2", "x86-64")
Test265Rc1Aa1I386 = case("2.6.5-rc1-aa1", "i386")
Test265Rc1Aa1Pae = case("2.6.5-rc1-aa1", "i386-pae")
Test265Rc1Aa1X8664 = case("2.6.5-rc1-aa1", "x86-64")
