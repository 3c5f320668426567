"""Breakpoints, watched pages and steps: the instruction at which it stops has not run, the one that is stepped has, and what comes after is as without them.

code    mov 1, eax | inc eax | inc eax | mov eax, (edi) | mov (edi), ebx | call the kernel
"""

from collections.abc import Callable, Iterator

import pytest
from tests.cpu.test_unicorn_engine import KINDS, SYSCALL, Cpu

from rmaplab.cpu.engine import AccessKind, MemoryAccess, Trap
from rmaplab.errors import UsageError
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

CODE = {
    64: ("48c7c001000000", "48ffc0", "48ffc0", "488907", "488b1f", SYSCALL),
    32: ("b801000000", "90", "40", "40", "8907", "8b1f", "cd80"),
}


@pytest.fixture(params=KINDS, ids=lambda kind: kind[1])
def cpu(request: pytest.FixtureRequest) -> Iterator[Cpu]:
    """With the code, and edi 16 bytes into the page `data`."""
    made = Cpu(*request.param)
    made.load(*CODE[made.bits])
    made.context.write({"rdi" if made.bits == 64 else "edi": made.data + 16})
    yield made
    made.context.close()
    made.engine.close()
    made.system.close()


def starts(cpu: Cpu) -> list[int]:
    """Where instructions begin, and the end."""
    found = [0]
    for each in CODE[cpu.bits]:
        found.append(found[-1] + len(each) // 2)
    return found


def live(cpu: Cpu, run: Callable[[], Trap]) -> Trap:
    """A turn or a step; faults are dealt with."""
    while True:
        trap = run()
        if trap is not Trap.FAULT:
            return trap
        if cpu.engine.access is AccessKind.FETCH:
            cpu.task.execute(cpu.engine.address)
        else:
            cpu.task.touch(cpu.engine.address, 1, write=cpu.engine.access is AccessKind.WRITE)


def step(cpu: Cpu) -> Trap:
    return live(cpu, lambda: cpu.engine.step(cpu.context, cpu.space))


def test_every_instruction_is_a_step(cpu: Cpu) -> None:
    """The last one calls the kernel, and is told as that. The trap flag does not stay."""
    at = starts(cpu)
    for place in at[1:-1]:
        assert step(cpu) is Trap.STEPPED
        assert cpu.context.pc == cpu.code + place
    assert step(cpu) is Trap.SYSCALL
    assert cpu.context.pc == cpu.code + at[-1]
    assert cpu.engine.number == 3
    assert not cpu.context.read()["flags"] & 0x100
    cpu.context.pc = cpu.code
    assert live(cpu, cpu.turn) is Trap.SYSCALL


def test_breakpoints(cpu: Cpu) -> None:
    """Each stops every time; a step goes over it; what is taken away does not stop it, whatever was translated meanwhile."""
    at = [cpu.code + place for place in starts(cpu)]
    assert live(cpu, cpu.turn) is Trap.SYSCALL
    cpu.engine.set_stops({at[1], at[3]}, {})
    cpu.context.pc = cpu.code
    for place in (at[1], at[3]):
        assert live(cpu, cpu.turn) is Trap.BREAKPOINT
        assert live(cpu, cpu.turn) is Trap.BREAKPOINT
        assert cpu.context.pc == place
        assert step(cpu) is Trap.STEPPED
    assert live(cpu, cpu.turn) is Trap.SYSCALL
    cpu.engine.set_stops({at[3]}, {})
    cpu.context.pc = cpu.code
    assert live(cpu, cpu.turn) is Trap.BREAKPOINT
    assert cpu.context.pc == at[3]
    cpu.engine.set_stops((), {})
    assert live(cpu, cpu.turn) is Trap.SYSCALL


@pytest.mark.parametrize("reads", [False, True])
def test_watched_pages(cpu: Cpu, reads: bool) -> None:
    """The access has not been made, nor its bits set; stepped, it has been, and says where. Reads stop only where they matter; another page never does."""
    cpu.task.write(cpu.data, b"before")
    cpu.clear(cpu.data)
    nr = cpu.bits // 8
    cpu.engine.set_stops((), {cpu.data >> PAGE_SHIFT: reads, (cpu.data >> PAGE_SHIFT) + 3: True})
    pfn = cpu.entry(cpu.data) >> PAGE_SHIFT
    assert live(cpu, cpu.turn) is Trap.WATCHED
    assert cpu.bits_of(cpu.data) == (False, False)
    assert step(cpu) is Trap.STEPPED
    assert cpu.engine.accesses == [MemoryAccess(pfn * PAGE_SIZE + 16, nr, is_write=True)]
    assert cpu.task.read(cpu.data + 16, 1) == b"\3"
    if reads:
        assert live(cpu, cpu.turn) is Trap.WATCHED
        assert step(cpu) is Trap.STEPPED
        assert cpu.engine.accesses == [MemoryAccess(pfn * PAGE_SIZE + 16, nr, is_write=False)]
    assert live(cpu, cpu.turn) is Trap.SYSCALL
    cpu.engine.set_stops((), {})
    cpu.context.pc = cpu.code
    assert live(cpu, cpu.turn) is Trap.SYSCALL
    assert cpu.bits_of(cpu.data) == (True, True)


def test_registers_by_name(cpu: Cpu) -> None:
    """As gdb calls them, the FPU's and those of SSE too."""
    wide = cpu.bits == 64
    cpu.context.poke("xmm1", b"0123456789abcdef")
    cpu.context.poke("rbx" if wide else "ebx", (77).to_bytes(8, "little"))
    other = cpu.context.copy()
    other.poke("xmm1", bytes(16))
    assert cpu.context.peek("xmm1")[:16] == b"0123456789abcdef"
    assert other.peek("xmm1")[:16] == bytes(16)
    assert cpu.context.read()["rbx" if wide else "ebx"] == 77
    assert cpu.context.peek("fctrl")[:2] == b"\x7f\x03"
    with pytest.raises(KeyError):
        cpu.context.peek("xyz")
    other.close()


def test_too_many(cpu: Cpu) -> None:
    """What the engine has no room for is refused, and what was there stays."""
    cpu.engine.set_stops({cpu.code}, {})
    with pytest.raises(UsageError):
        cpu.engine.set_stops((), dict.fromkeys(range(1000), True))
    with pytest.raises(UsageError):
        cpu.engine.set_stops(range(100_000), {})
    assert live(cpu, cpu.turn) is Trap.BREAKPOINT
