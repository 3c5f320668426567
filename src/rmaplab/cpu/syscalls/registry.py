"""The system calls that programs can make, by name; the numbers are in cpu/numbers.py.

    @call("getpid")
    def sys_getpid(thread, *_): ...

A call is given the thread and six unsigned words, and returns what the result register is to be. It raises SyscallError; it may sleep (thread.sleep).
"""

from collections.abc import Callable
from typing import Any, TypeVar

from rmaplab.cpu.numbers import NAMES32, NAMES64

F = TypeVar("F", bound=Callable[..., int])
_CALLS: dict[tuple[int, str], Callable[..., int]] = {}
NAMES = {64: NAMES64, 32: NAMES32}


def call(*names: str, abi: int | None = None) -> Callable[[F], F]:
    """The function is system call `names`, of programs of `abi` bits or of both."""

    def register(function: F) -> F:
        for bits in (32, 64) if abi is None else (abi,):
            for name in names:
                assert (bits, name) not in _CALLS, f"{name} is two functions"
                _CALLS[bits, name] = function
        return function

    return register


def table(bits: int) -> dict[int, Callable[..., Any]]:
    """By number. O(calls)."""
    return {number: _CALLS[bits, name] for number, name in NAMES[bits].items() if (bits, name) in _CALLS}
