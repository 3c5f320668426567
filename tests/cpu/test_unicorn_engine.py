"""The engine: machine code in user mode, on page tables in simulated RAM. What it sets and what it refuses is what a CPU would."""

from collections.abc import Iterator

import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.cpu.engine import AccessKind, Space, Trap
from rmaplab.cpu.unicorn_context import UnicornContext
from rmaplab.cpu.unicorn_engine import UnicornEngine
from rmaplab.kernels.system import System
from rmaplab.machine.entries import ACCESSED, DIRTY
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import PROT_EXEC, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

RWX = PROT_READ | PROT_WRITE | PROT_EXEC
SYSCALL, INT80 = "0f05", "cd80"
EIP = {64: "rip", 32: "eip"}


class Cpu:
    """An address space with a page of code at `code` and pages of data at `data`."""

    def __init__(self, bits: int, paging: str, kernel: str) -> None:
        self.system: System = rmaplab.boot(kernel, ram="32M", paging=paging, boot_use="2M")
        self.machine = self.system.machine
        self.task: Task = self.system.spawn()
        self.bits, self.now = bits, 0
        self.engine = UnicornEngine(self.machine, bits, 0)
        self.machine.tlb.listener = self.engine.flush
        self.code = self.task.mmap(2 * PAGE_SIZE, RWX)
        self.data = self.task.mmap(4 * PAGE_SIZE, PROT_READ | PROT_WRITE)
        assert self.task.mm is not None
        self.space = Space(self.task.mm)
        self.context: UnicornContext = self.engine.context(self.code, self.data + PAGE_SIZE)

    def load(self, *code: str) -> None:
        """Machine code, in hex, from the start."""
        self.task.write(self.code, b"".join(map(bytes.fromhex, code)))
        self.context.pc = self.code

    def turn(self, blocks: int = 1000) -> Trap:
        """Run it."""
        return self.engine.turn(self.context, self.space, blocks, self.now)

    def bits_of(self, address: int) -> tuple[bool, bool]:
        """(accessed, dirty) of an entry."""
        entry = self.entry(address)
        return bool(entry & ACCESSED), bool(entry & DIRTY)

    def entry(self, address: int) -> int:
        assert self.task.mm is not None
        return int(lookup(*self.machine.geometry, self.task.mm.pgd, address)[0])

    def clear(self, address: int) -> None:
        """What reclaim does to an entry."""
        assert self.task.mm is not None
        entry, pte = lookup(*self.machine.geometry, self.task.mm.pgd, address)
        self.machine.set_entry(pte, int(entry) & ~(ACCESSED | DIRTY))
        self.engine.flush()


KINDS = [(64, "x86-64", "6.18"), (32, "i386", "2.6.7"), (32, "i386-pae", "2.6.7")]


@pytest.fixture(params=KINDS, ids=lambda kind: kind[1])
def cpu(request: pytest.FixtureRequest) -> Iterator[Cpu]:
    """One of 64 bits, and two of 32."""
    made = Cpu(*request.param)
    yield made
    made.context.close()
    made.engine.close()
    made.system.close()


def test_accessed_and_dirty(cpu: Cpu) -> None:
    """A read sets one of them, a write both; neither sets any elsewhere; and again after they were cleared."""
    first, second, third = (cpu.data + n * PAGE_SIZE for n in range(3))
    for page in (first, second, third):
        cpu.task.write(page, b"x")
    for _ in range(2):
        for page in (first, second, third):
            cpu.clear(page)
        cpu.load("8b03", "8901", SYSCALL if cpu.bits == 64 else INT80)  # mov (ebx), eax; mov eax, (ecx)
        names = ("rbx", "rcx") if cpu.bits == 64 else ("ebx", "ecx")
        cpu.context.write(dict(zip(names, (first + 8, second + 8), strict=True)))
        assert cpu.turn() is Trap.SYSCALL
        assert [cpu.bits_of(page) for page in (first, second, third)] == [(True, False), (True, True), (False, False)]
    assert cpu.bits_of(cpu.code)[0]


def test_a_write_after_a_read_is_seen(cpu: Cpu) -> None:
    """A clean page that was read is in the TLB; a write to it sets its bit all the same."""
    cpu.task.write(cpu.data, b"x")
    cpu.clear(cpu.data)
    cpu.load("8b03", "8b03", "8903", SYSCALL if cpu.bits == 64 else INT80)
    cpu.context.write({"rbx" if cpu.bits == 64 else "ebx": cpu.data})
    assert cpu.turn() is Trap.SYSCALL
    assert cpu.bits_of(cpu.data) == (True, True)


def test_faults(cpu: Cpu) -> None:
    """Nothing there, a write to what may only be read, a fetch: address to the byte, and what it was; the code goes on where it was."""
    name = "rbx" if cpu.bits == 64 else "ebx"
    cpu.load("8b03", SYSCALL if cpu.bits == 64 else INT80)
    for address in (cpu.data + 3 * PAGE_SIZE + 5, 16):
        cpu.context.pc = cpu.code
        cpu.context.write({name: address})
        assert cpu.turn() is Trap.FAULT
        assert (cpu.engine.address, cpu.engine.access, cpu.context.pc) == (address, AccessKind.READ, cpu.code)
    cpu.task.touch(cpu.data, 1)  # the zero page
    cpu.load("8903", SYSCALL if cpu.bits == 64 else INT80)
    cpu.context.write({name: cpu.data + 12})
    assert cpu.turn() is Trap.FAULT
    assert (cpu.engine.address, cpu.engine.access) == (cpu.data + 12, AccessKind.WRITE)
    assert cpu.bits_of(cpu.data)[1] is False
    cpu.task.touch(cpu.data, 1, write=True)
    assert cpu.turn() is Trap.SYSCALL
    cpu.load("ffe3")  # jmp *ebx
    cpu.context.write({name: cpu.data + 3 * PAGE_SIZE + 1})
    assert cpu.turn() is Trap.FAULT
    assert (cpu.engine.address, cpu.engine.access) == (cpu.data + 3 * PAGE_SIZE + 1, AccessKind.FETCH)


def test_fetches_only_from_what_may_be_run() -> None:
    """Where the kernel knows NX: the ranges of its space, and nothing else."""
    cpu = Cpu(*KINDS[0])
    cpu.task.write(cpu.data, bytes.fromhex(SYSCALL))
    cpu.space.executable = [(cpu.code, cpu.code + PAGE_SIZE)]
    cpu.space.version += 1
    cpu.load("ffe3")
    cpu.context.write({"rbx": cpu.data})
    assert cpu.turn() is Trap.FAULT
    assert (cpu.engine.address, cpu.engine.access) == (cpu.data, AccessKind.FETCH)
    cpu.space.executable = sorted([(cpu.data, cpu.data + PAGE_SIZE), *cpu.space.executable])
    cpu.space.version += 1
    assert cpu.turn() is Trap.SYSCALL
    cpu.system.close()


@pytest.mark.parametrize(
    ("code", "what"),
    [("f4", 13), ("fa", 13), ("0f20c0", 13), ("0f30", 13), ("0f22d8", 13), ("0f0b", 6), ("cc", 3), ("cd55", 0x55)],
)
def test_ring_3(cpu: Cpu, code: str, what: int) -> None:
    """hlt, cli, control registers, wrmsr: only a kernel may. No exception leads to a double fault."""
    for _ in range(3):
        cpu.load(code, "90")
        assert cpu.turn() is Trap.EXCEPTION
        assert cpu.engine.vector in (what, 13, 6)
    cpu.load("b807000000", SYSCALL if cpu.bits == 64 else INT80)
    assert cpu.turn() is Trap.SYSCALL
    assert cpu.engine.number == 7


def test_division_by_zero_and_others_again_and_again(cpu: Cpu) -> None:
    """An exception is over when it was told."""
    for code, vector in (("31c931d2f7f1", 0), ("0f0b", 6), ("31c931d2f7f1", 0)):
        cpu.load(code)
        assert cpu.turn() is Trap.EXCEPTION
        assert cpu.engine.vector == vector


def test_rdtsc_is_simulated_time(cpu: Cpu) -> None:
    """Both halves, what the caller says; here no time passes with the code."""
    for now in (5, 0x1234_5678_9ABC):
        cpu.now = now
        cpu.load("0f31", SYSCALL if cpu.bits == 64 else INT80)
        assert cpu.turn() is Trap.SYSCALL
        registers = cpu.context.read()
        low, high = (registers[name] for name in (("rax", "rdx") if cpu.bits == 64 else ("eax", "edx")))
        assert high << 32 | low == now


def test_a_slice_ends_and_goes_on(cpu: Cpu) -> None:
    """So many basic blocks, no more, and no instruction twice."""
    cpu.load("ffc0" if cpu.bits == 64 else "40", "75fc" if cpu.bits == 64 else "75fd")  # again: inc eax; jne again
    turns = [cpu.turn(blocks) for blocks in (10, 25, 7)]
    assert turns == [Trap.SLICE] * 3
    assert cpu.context.read()["rax" if cpu.bits == 64 else "eax"] == 42


def test_a_frame_that_has_other_code(cpu: Cpu) -> None:
    """What was translated of a frame is forgotten when it holds something else: written by the kernel, or another page's now."""
    ends = SYSCALL if cpu.bits == 64 else INT80
    for value in range(5):
        cpu.load(f"b8{value:02x}000000", ends)
        assert cpu.turn() is Trap.SYSCALL
        assert cpu.engine.number == value
    for value in range(5, 8):
        cpu.task.munmap(cpu.code, PAGE_SIZE)
        other = cpu.task.mmap(PAGE_SIZE, RWX)
        cpu.task.write(other, bytes.fromhex(f"b8{value:02x}000000" + ends))
        cpu.context.pc = other
        assert cpu.turn() is Trap.SYSCALL
        assert cpu.engine.number == value
        cpu.code = other


def test_contexts_do_not_mix(cpu: Cpu) -> None:
    """Two threads in turns: general registers, and those of SSE; a copy has what its original had then."""
    ends, name = (SYSCALL, "rbx") if cpu.bits == 64 else (INT80, "ebx")
    cpu.load("660f6ec3", ends, "660f7ec0", ends)  # movd ebx, xmm0; call; movd xmm0, eax; call
    one = cpu.context
    one.write({name: 11})
    other = one.copy()
    other.write({name: 22})
    for context in (one, other):
        assert cpu.engine.turn(context, cpu.space, 10) is Trap.SYSCALL
    third = one.copy()
    for context, value in ((other, 22), (one, 11), (third, 11)):
        context.write({name: 0})
        assert cpu.engine.turn(context, cpu.space, 10) is Trap.SYSCALL
        assert cpu.engine.number == value
    one.become(other)
    assert one.read() == other.read()
    for context in (other, third):
        context.close()


def test_the_fpu_at_first(cpu: Cpu) -> None:
    """As fninit leaves it."""
    cpu.load("d93b", "0fae5b04", SYSCALL if cpu.bits == 64 else INT80)  # fnstcw (ebx); stmxcsr 4(ebx)
    cpu.task.touch(cpu.data, 1, write=True)
    cpu.context.write({"rbx" if cpu.bits == 64 else "ebx": cpu.data})
    assert cpu.turn() is Trap.SYSCALL
    assert cpu.task.read(cpu.data, 2) == b"\x7f\x03"
    assert cpu.task.read(cpu.data + 4, 4) == b"\x80\x1f\0\0"
