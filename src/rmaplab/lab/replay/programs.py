"""A program begins: what execve maps itself, of which a log of strace has no line.

    x86-64, 2.6.7          0x600000 |text|data|bss|heap ->     0x2a95556000 |ld.so| mmap ->      <- |stack| 0x7fc0000000

What it maps of a program and of its loader rmaplab record adds to the log (workloads/program_image.py). Where nobody has, or where a call names addresses that do not
tell where the program began, so many pages of text as TEXT says are believed, and of data what calls name later, at least DATA. Where: below where the heap of a small program begins on this kernel; its own begins behind it, since 2.6.25 at some distance (heap_gap_bytes); the loader where an mmap goes; the stack at the
top, with the 128 KiB that execve makes it grow by (setup_arg_pages). A loader is there if a call names an address of it. Two pages of the stack are
written by execve itself, and the page where data ends and bss begins (padzero).

Source: 2.6.2, 6.18 fs/binfmt_elf.c, load_elf_binary; 6.18 fs/exec.c, setup_arg_pages.
"""

from functools import cache

from rmaplab.calls.task import Task
from rmaplab.lab.replay.places import Image, ProgramPart
from rmaplab.lab.replay.playing import Playing
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.program_image import ProgramImage, ProgramSegment

TEXT, DATA, BSS = 64 * PAGE_SIZE, 2 * PAGE_SIZE, PAGE_SIZE
STACK, STRINGS = 33 * PAGE_SIZE, 2 * PAGE_SIZE
ALIGN = 1 << 20  # of where a program begins
READ_WRITE = PROT_READ | PROT_WRITE


class Programs(Playing):
    """Begins programs."""

    _unknown: AddressSpace | None = None

    def begin(self, task: Task, image: Image) -> None:
        """Map what it consists of, in an address space that is empty. Raises SyscallError; as an allocation."""
        start = self.system.machine.paging.heap_base & -ALIGN
        end = self._map_part(task, self._program_file(image.file), image.program, start)
        self.begin_heap(task, end + self.system.kernel.rules.heap_gap_bytes)
        if image.loader.origin is not None:
            self._map_part(task, self._program_file(image.loader_file), image.loader, None)
        self._map_stack(task, image.stack)

    def begin_heap(self, task: Task, address: int) -> None:
        """There it begins, and has nothing yet."""
        if task.mm is not None:
            task.mm.start_brk = task.mm.brk = address

    def _map_part(self, task: Task, file: AddressSpace, part: ProgramPart, start: int | None) -> int:
        """Its segments, at `start` or where mmap likes: where they end."""
        facts, begins = part.facts, part.begins
        if facts is not None and (begins is not None or part.origin is None):
            low = begins or 0
        else:
            data = max(part.high - part.low, DATA)
            facts, low = believed(data), part.low - TEXT
        loads, first = facts.loads, facts.start
        file.size = max(file.size, *(load.offset + load.filed for load in loads))
        fd = task.open(file)
        try:
            fixed = MAP_PRIVATE | MAP_FIXED
            at = start
            if at is None:
                at = task.mmap(facts.end - first, PROT_READ, MAP_PRIVATE, file=fd)
                task.munmap(at, facts.end - first)
            for load in loads:
                self._map_segment(task, fd, load, at + load.start - first, fixed)
        finally:
            task.close(fd)
        self.base[part.region] = at - low
        return at + facts.end - first

    def _map_segment(self, task: Task, fd: int, load: ProgramSegment, at: int, flags: int) -> None:
        """Its pages of the file, and of zeros what it has beyond them (bss); the page where they meet is written (padzero)."""
        filed, rest = load.file_end - load.start, load.end - load.file_end
        if filed:
            task.mmap(filed, load.prot, flags, at, file=fd, pgoff=load.offset // PAGE_SIZE)
        if rest > 0:
            task.mmap(rest, load.prot, flags | MAP_ANONYMOUS, at + filed)
        writable = load.prot & PROT_WRITE
        if writable and filed and load.memory > load.filed:
            task.touch(at + filed - PAGE_SIZE, PAGE_SIZE, write=True)
        if writable:
            self.written(task, at, filed, anonymous=False)
        elif load.prot & PROT_EXEC and filed:
            self.run(task, at, filed)

    def _map_stack(self, task: Task, part: ProgramPart) -> None:
        top = self.system.machine.paging.task_size - PAGE_SIZE
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN
        task.mmap(STACK, READ_WRITE, flags, top - STACK)
        task.touch(top - STRINGS, STRINGS, write=True)
        self.base[part.region] = top - STRINGS - part.high

    def _program_file(self, number: int | None) -> AddressSpace:
        """That of the log, or one for all programs of which it says nothing, or that lie in memory, where a file is charged for by its size."""
        if number is not None and (file := self.file(number)).on_disk:
            return file
        if self._unknown is None:
            self._unknown = self.system.new_file()
        return self._unknown


@cache
def believed(data: int) -> ProgramImage:
    """What a program consists of, of which nobody knows more than how much of its data is used."""
    text = ProgramSegment(0, TEXT, TEXT, 0, 5)
    return ProgramImage((text, ProgramSegment(TEXT, data + BSS, data, TEXT, 6)))
