"""What hostile programs have found: each defect's smallest program, or the property that was missing."""

import errno
import inspect
import random
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from tests.cpu.programs import ran

from rmaplab.cpu.engine import Space
from rmaplab.cpu.files.tree import FileTree
from rmaplab.cpu.start import CALL_MODULES
from rmaplab.cpu.syscalls.registry import table
from rmaplab.cpu.userland import Userland
from rmaplab.errors import SyscallError
from rmaplab.kernels.system import boot
from rmaplab.lab.hostile.assembler import ARGUMENTS, DATA_AT, NUMBERS, RESULT, STACK, Assembler
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_PRIVATE, VM_EXEC
from rmaplab.units import PAGE_SIZE

NARROW_AND_WIDE = pytest.mark.parametrize("bits", [32, 64])


def run(code: Assembler, root: Path) -> int | str | None:
    """The exit status of a program, as a shell has it; everything is recounted after it. What has ended it before, if that is a bound."""
    program = root / "program"
    program.write_bytes(code.elf())
    program.chmod(0o755)
    paging = "x86-64" if code.bits == 64 else "i386"
    done, _ = ran("2.6.2", "/program", where=root, ram="64M", boot_use="16M", paging=paging)
    return done.why if done.status is None else done.status


def test_every_call_takes_six_arguments() -> None:
    for module in CALL_MODULES:
        import_module(f"rmaplab.cpu.syscalls.{module}")
    for bits in (32, 64):
        for call in table(bits).values():
            inspect.signature(call).bind(None, *range(6))


@NARROW_AND_WIDE
def test_clone_cannot_fail_once_there_is_a_child(bits: int, tmp_path: Path) -> None:
    code = Assembler(bits)
    for wild in (1, -1, 0xC000_0000):
        code.child(lambda: None, "clone", 0x0110_0011, 0, wild, wild, wild)  # numbers for parent and child
        code.call("wait4", -1, 0, 0, 0)
    descriptor = code.words(*[-2] * 4)
    code.call("clone", 0x0008_0011, 0, 0, *([0, 1 << 63] if bits == 64 else [descriptor, 0]))
    code.exit_with()
    assert run(code, tmp_path) == 256 - (errno.EPERM if bits == 64 else errno.EINVAL)


@NARROW_AND_WIDE
@pytest.mark.parametrize("ends", [True, False])
def test_execve_reads_its_arguments_to_the_end_of_a_mapping(bits: int, ends: bool, tmp_path: Path) -> None:
    code = Assembler(bits)
    path = code.place(b"/nothing\0")
    nr = 4
    words = [path] * (nr - 1) + [0 if ends else path]
    code.data = code.data.ljust(PAGE_SIZE - nr * code.word, b"\0") + b"".join(
        word.to_bytes(code.word, "little") for word in words
    )
    array = DATA_AT + PAGE_SIZE - nr * code.word
    for register, value in zip(ARGUMENTS[bits], (path, array, 0), strict=False):
        code.set(register, value)
    code.set(RESULT, NUMBERS[bits]["execve"])
    code.trap()
    code.exit_with()
    assert run(code, tmp_path) == 256 - (errno.ENOENT if ends else errno.EFAULT)


@pytest.mark.parametrize("other", [True, False])
def test_descriptors_of_a_thread_are_no_others(other: bool, tmp_path: Path) -> None:
    own, code = Assembler(32), Assembler(32)
    loads_gs = b"\xb8\x33\0\0\0\x8e\xe8"  # descriptor 6
    own.code += loads_gs
    own.exit(5)
    (tmp_path / "other").write_bytes(own.elf())
    (tmp_path / "other").chmod(0o755)
    code.call("set_thread_area", code.words(6, DATA_AT, 1, 0x51))
    code.code += loads_gs
    if other:
        code.call("execve", code.place(b"/other\0"), 0, 0)
    code.exit(5)
    assert run(code, tmp_path) == (128 + signal.SIGSEGV if other else 5)


@NARROW_AND_WIDE
@pytest.mark.parametrize("sp", [0, 8, 300, -16, -1, 1 << 31, 1 << 63])
@pytest.mark.parametrize("returns", [True, False])
def test_a_stack_that_is_none_is_a_signal(bits: int, sp: int, returns: bool, tmp_path: Path) -> None:
    code = Assembler(bits)
    code.call("rt_sigaction", signal.SIGSEGV, code.words(code.here, 0, 0, 0, 0), 0, 8)
    code.set(RESULT, NUMBERS[bits]["rt_sigreturn"])
    code.set(STACK, sp)
    if returns:
        code.trap()
    code.code += b"\xf4"  # hlt
    assert run(code, tmp_path) == 128 + signal.SIGSEGV


FOR_EVER = (1 << 63) - 1


@pytest.mark.parametrize(
    "call",
    [
        lambda code: code.call("nanosleep", code.words(FOR_EVER, 0), 0),
        lambda code: code.call("setitimer", 0, code.words(0, 0, 1 << 62, 0), 0),
        lambda code: code.call("setitimer", 0, code.words(1 << 60, 0, 1 << 62, 0), 0),
        lambda code: code.call("ppoll", 0, 0, code.words(FOR_EVER, 0), 0, 8),
    ],
)
def test_who_sleeps_for_ever_ends_the_run_with_a_word(call: Callable[[Assembler], object], tmp_path: Path) -> None:
    code = Assembler(64)
    code.call("rt_sigaction", 14, code.words(1, 0, 0, 0), 0, 8)  # ignored
    call(code)
    code.call("pause")
    assert "simulated seconds" in str(run(code, tmp_path))


def test_an_alarm_that_nobody_takes_is_not_rung_again(tmp_path: Path) -> None:
    code = Assembler(64)
    code.call("rt_sigaction", 14, code.words(1, 0, 0, 0), 0, 8)  # ignored
    code.call("setitimer", 0, code.words(0, 1, 0, 1), 0)
    code.call("nanosleep", code.words(1 << 20, 0), 0)  # 10^12 of them
    code.exit(3)
    assert run(code, tmp_path) == 3


def test_what_may_be_executed_is_found_anew_where_it_changed(tmp_path: Path) -> None:
    system = boot("6.18", ram="64M", boot_use="16M")
    userland = Userland(system, FileTree(system, tmp_path))
    task, draw = system.spawn(None), random.Random(5)
    assert task.mm is not None
    space = Space(task.mm)
    base = task.mmap(64 * PAGE_SIZE)
    for _ in range(400):
        start, length = base + draw.randrange(64) * PAGE_SIZE, draw.randrange(1, 12) * PAGE_SIZE
        try:
            if draw.random() < 0.6:
                task.mprotect(start, length, draw.choice((1, 3, 5)))
            elif draw.random() < 0.5:
                task.munmap(start, length)
            else:
                start = task.mmap_opened(
                    length, draw.choice((1, 5)), MAP_PRIVATE | MAP_ANONYMOUS | 0x10, start, None, 0
                )
        except SyscallError:
            pass
        userland.find_executable(space, start, start + length)
        pages = {page for low, high in space.executable or [] for page in range(low, high, PAGE_SIZE)}
        assert pages == {
            page for vma in space.mm.vmas if vma.flags & VM_EXEC for page in range(vma.start, vma.end, PAGE_SIZE)
        }
        edges = [edge for low_high in space.executable or [] for edge in low_high]
        assert edges == sorted(set(edges))
    userland.close()
    system.close()
