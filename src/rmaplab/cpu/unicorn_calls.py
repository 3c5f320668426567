"""Unicorn's C functions, called without its wrapper, and two things of it that are found by looking, since it does not show them.

old_exception    x86: an exception that comes before the last one was handled is a double fault; Unicorn's callers handle them, and it never hears of it
refused          the address that a TLB fill has refused: the callback is told of the page, and a signal of the byte
"""

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from rmaplab.cpu.extra import uclib, unicorn
from rmaplab.errors import KernelBug

GENERAL_PROTECTION = 13
ENGINE_BYTES = 8192
"""Of Unicorn's own struct, which is longer."""
PROBES = 0x1234_5678, 0x2345_6789


class RegisterBatch:
    """Registers that are read in one call."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self._words = (ctypes.c_uint64 * len(numbers))()
        self._ids = (ctypes.c_int * len(numbers))(*numbers)
        base = ctypes.addressof(self._words)
        self._places = (ctypes.c_void_p * len(numbers))(*(base + 8 * i for i in range(len(numbers))))

    def read(self, handle: Any) -> list[int]:
        """Their values."""
        checked(uclib.uc_reg_read_batch(handle, self._ids, self._places, len(self.numbers)))
        return self._words[:]


def checked(error: int) -> None:
    """Raises KernelBug if a call has failed."""
    if error:
        raise KernelBug("engine", str(unicorn.UcError(error)))


def add_hook(
    handle: Any, kind: int, function: int, control: int, *instruction: int, begin: int = 1, end: int = 0
) -> ctypes.c_size_t:
    """Have the machine code at `function` called, with a pointer to the words at `control`, from `begin` to `end` (else everywhere): what uc_hook_del wants."""
    hook = ctypes.c_size_t()
    where = ctypes.c_void_p(function), ctypes.c_void_p(control), ctypes.c_uint64(begin), ctypes.c_uint64(end)
    checked(uclib.uc_hook_add(handle, ctypes.byref(hook), ctypes.c_int(kind), *where, *map(ctypes.c_int, instruction)))
    return hook


def find_old_exception(handle: Any, code: int) -> int:
    """Where a saved context has the exception before: the word that a `hlt` at the address `code` changes from -1 to a general protection fault."""
    saved, size = ctypes.c_void_p(), uclib.uc_context_size(handle)
    checked(uclib.uc_context_alloc(handle, ctypes.byref(saved)))
    checked(uclib.uc_context_save(handle, saved))
    before = ctypes.string_at(saved, size)
    uclib.uc_emu_start(handle, ctypes.c_uint64(code), 0, 0, 0)
    checked(uclib.uc_context_save(handle, saved))
    after = ctypes.string_at(saved, size)
    uclib.uc_context_free(saved)
    was, is_now = struct.pack("<i", -1), struct.pack("<i", GENERAL_PROTECTION)
    places = [i for i in range(0, size - 3, 4) if before[i : i + 4] == was and after[i : i + 4] == is_now]
    if len(places) != 1:
        raise KernelBug("engine", f"this Unicorn has {len(places)} words that tell of an exception")
    return places[0]


def find_refused(handle: Any, fetch: Callable[[int], None]) -> ctypes.c_uint64 | None:
    """Where Unicorn keeps the address that it could not reach, after `fetch` of two such addresses. None: not found, and faults are told by the page."""
    base, places = handle.value, set[int]()
    for address in PROBES:
        fetch(address)
        words = (ctypes.c_uint64 * (ENGINE_BYTES // 8)).from_address(base)
        found = {i for i, word in enumerate(words) if word == address}
        places = places & found or found
    return ctypes.c_uint64.from_address(base + 8 * places.pop()) if len(places) == 1 else None
