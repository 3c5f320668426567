"""Where a debugger has user code stop, and what it sees of registers: Unicorn's part of it.

    breakpoint     what is called before the instruction ends the turn (traps.py, stop_before); what was translated without that is forgotten
    watched page   the TLB never has an entry for it, so each access is asked for (traps.py, fill), and the instruction has not run
    a step         the trap flag is set; breakpoints do nothing, watched pages may be touched, and loads and stores are noted

Watched are pages, not bytes: who watches a word steps what touches its page, and looks whether that was it.
"""

import ctypes
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from rmaplab.cpu import traps
from rmaplab.cpu.engine import MemoryAccess
from rmaplab.cpu.extra import uclib, unicorn, x86
from rmaplab.cpu.unicorn_calls import add_hook, checked
from rmaplab.errors import UsageError
from rmaplab.machine.arrays import I64

FPU = {
    "fctrl": "FPCW", "fstat": "FPSW", "ftag": "FPTAG", "fiseg": "FCS", "fioff": "FIP", "foseg": "FDS", "fooff": "FDP", "fop": "FOP",
}  # fmt: skip
"""gdb's names, where Unicorn has others."""
MOST_BYTES, MOST_BREAKPOINTS = 64, 10_000


class EngineStops:
    """Those of one engine, with its control words."""

    def __init__(self, uc: Any, control: I64) -> None:
        self._uc: Any = uc
        self._handle, self._control = uc._uch, control  # noqa: SLF001
        self._at: dict[int, ctypes.c_size_t] = {}
        self._notes: ctypes.c_size_t | None = None

    def set(self, breakpoints: Collection[int], watched: Mapping[int, bool]) -> None:
        """Instead of those before. O(those). Raises UsageError, and leaves those."""
        if self._uc is None:
            return
        if len(watched) > traps.MOST_WATCHED:
            raise UsageError(f"{len(watched)} pages are to be watched: {traps.MOST_WATCHED} can be, so watch less")
        if len(breakpoints) > MOST_BREAKPOINTS:
            raise UsageError(f"{len(breakpoints)} breakpoints: {MOST_BREAKPOINTS} can be, so delete some")
        words, place = [page << 1 | reads for page, reads in watched.items()], self._control.ctypes.data
        self._control[traps.NR_WATCHED] = len(words)
        self._control[traps.WATCHED : traps.WATCHED + len(words)] = words
        for address in self._at.keys() - set(breakpoints):
            checked(uclib.uc_hook_del(self._handle, self._at.pop(address)))
        stop, note = traps.debugging()
        for address in set(breakpoints) - self._at.keys():
            self._at[address] = add_hook(
                self._handle, unicorn.UC_HOOK_CODE, stop.address, place, begin=address, end=address
            )
        if watched and self._notes is None:
            kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
            self._notes = add_hook(self._handle, kinds, note.address, place)
        elif self._notes is not None and not watched:
            checked(uclib.uc_hook_del(self._handle, self._notes))
            self._notes = None
        self._uc.ctl_flush_tb()

    def close(self) -> None:
        """The engine is not to be used after."""
        self._uc = None

    def begin_step(self) -> None:
        """An instruction is about to be stepped."""
        self._control[traps.NOTES], self._control[traps.NR_NOTED] = 1, 0

    def end_step(self) -> list[MemoryAccess]:
        """It has been: what it has read and written, if anything is watched."""
        control = self._control
        control[traps.NOTES] = 0
        noted = control[traps.NOTED : traps.NOTED + 3 * int(control[traps.NR_NOTED])].reshape(-1, 3)
        return [MemoryAccess(place, nr, bool(is_write)) for place, nr, is_write in noted.tolist()]


@cache
def _register(name: str) -> int:
    number: int | None = getattr(x86, f"UC_X86_REG_{FPU.get(name, name.upper())}", None)
    if number is None:
        raise KeyError(name)
    return number


def peek(handle: Any, name: str) -> bytes:
    """A register's bytes, as many as any has, zeros behind them. Raises KeyError."""
    room = ctypes.create_string_buffer(MOST_BYTES)
    checked(uclib.uc_reg_read(handle, _register(name), room))
    return room.raw


def poke(handle: Any, name: str, value: bytes) -> None:
    """Set a register. Raises KeyError."""
    checked(uclib.uc_reg_write(handle, _register(name), ctypes.create_string_buffer(value, MOST_BYTES)))
