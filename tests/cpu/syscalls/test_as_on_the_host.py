"""A program that makes some two hundred file calls prints the same on the host and here, of 64 and of 32 bits."""

import inspect
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from tests.cpu.programs import compiled, ran, root

from rmaplab.cpu.start import CALL_MODULES
from rmaplab.cpu.syscalls import registry

SOURCE = Path(__file__).with_name("files.c").read_text()
KERNELS = {64: ("6.18", "x86-64"), 32: ("2.6.2", "i386")}


@pytest.mark.parametrize("part", ["regular", "names", "pipes", "copies", "memory"])
@pytest.mark.parametrize("bits", [64, 32])
def test_it_prints_the_same(bits: int, part: str, tmp_path: Path) -> None:
    """memfd_create is the kernel's of the day: 2.6.2 had none."""
    if (bits, part) == (32, "memory"):
        pytest.skip("no kernel with i386 tables here has memfd_create")
    program = compiled(SOURCE, f"-m{bits}", name=f"files{bits}")
    there = subprocess.run([root() / program[1:], part], capture_output=True, cwd=tmp_path, check=True)
    before = sorted(root().iterdir())
    kernel, paging = KERNELS[bits]
    executed, printed = ran(kernel, program, part, paging=paging)
    assert printed.decode().splitlines() == there.stdout.decode().splitlines()
    assert (executed.status, executed.unknown_calls, there.stdout != b"") == (0, {}, True)
    assert sorted(root().iterdir()) == before


def test_every_call_takes_six_arguments() -> None:
    """Which is how many it is given."""
    for module in CALL_MODULES:
        import_module(f"rmaplab.cpu.syscalls.{module}")
    for bits in (32, 64):
        for function in registry.table(bits).values():
            inspect.signature(function).bind(None, *range(6))


def test_no_call_is_registered_twice() -> None:
    """The later function would win without a word."""
    import_module("rmaplab.cpu.syscalls.system")
    with pytest.raises(AssertionError, match="getpid"):
        registry.call("getpid")(lambda *_: 0)
