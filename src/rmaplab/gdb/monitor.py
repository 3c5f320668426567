"""`monitor ...`: what gdb itself has no command for. Texts are those that rmaplab prints elsewhere.

monitor vmas | rmap ADDR | pte ADDR      of the thread that gdb has selected
monitor page PFN | phys ADDR [LENGTH]    of the machine
monitor lru | locks | tasks | ledger | kernel
monitor break [FUNCTION] | delete FUNCTION | step
"""

import os
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rmaplab.cpu.files.proc_text import maps
from rmaplab.errors import UsageError, did_you_mean
from rmaplab.gdb import memory
from rmaplab.gdb.tasks import Tasks
from rmaplab.gdb.verbs import VERBS
from rmaplab.harmless import harmless, printable
from rmaplab.kernels.system import System
from rmaplab.mm.kernel import Kernel
from rmaplab.report import machine_state as state

MOST_DUMPED = 4096
COMMANDS = {
    "vmas": "the thread's VMAs, as /proc/PID/maps has a program's",
    "rmap ADDR": "who maps the page at that address",
    "pte ADDR": "the way down the thread's page tables",
    "page PFN": "a frame, its owner and who maps it",
    "phys ADDR [LENGTH]": "bytes of physical memory",
    "lru": "pages and lists by zone",
    "locks": "who holds what, and what was counted",
    "tasks": "all tasks, with their kernel stacks",
    "ledger": "everything that was counted",
    "kernel": "which kernel on which machine, and when",
    "break [FUNCTION]": "stop where a function of the kernel begins; alone: which there are",
    "delete FUNCTION": "do not stop there any more",
    "step": "the next continue stops at the next point: a lock, a request for memory",
}


class Commanded(Protocol):
    """What a session is to this."""

    system: System
    kernel: Kernel
    tasks: Tasks
    verbs: dict[str, Callable[[Mapping[str, Any]], None]]

    def add_verb(self, name: str) -> None:
        """Stop there."""

    def remove_verb(self, name: str) -> None:
        """Do not."""

    def wants_point(self) -> None:
        """Stop at the next point."""


class Monitor:
    """Of one session. Called with a line and the thread that it is about: the answer. Raises UsageError."""

    def __init__(self, session: Commanded) -> None:
        self._session = session

    def __call__(self, line: str, number: int) -> str:
        """The answer to one command."""
        name, *words = line.split() or ["help"]
        known = {command.split()[0]: command for command in COMMANDS}
        if name == "help":
            width = max(map(len, COMMANDS))
            return "".join(f"monitor {command:<{width}}  {meaning}\n" for command, meaning in COMMANDS.items())
        if name not in known:
            raise UsageError(f"no command {printable(name)}{did_you_mean(name, known)}: monitor help lists them")
        wanted = known[name].split()[1:]
        least = sum(not word.startswith("[") for word in wanted)
        if not least <= len(words) <= len(wanted):
            raise UsageError(f"give monitor {known[name]}")
        answer: str = getattr(self, f"_{name}")(number, *words)
        return answer

    def _vmas(self, number: int) -> str:
        """Of a program as its own /proc has it."""
        userland = self._session.system.userland
        process = userland.processes.get(number) if userland is not None else None
        if process is None:
            return state.show_vmas(self._session.tasks.mm(number))
        return harmless(os.fsdecode(maps(process, userland.tree.fs, userland.tree.proc.path_of_mapping)))

    def _rmap(self, number: int, address: str) -> str:
        k = self._session.kernel
        with state.unnoticed(k):
            return state.show_rmap(k, self._session.tasks.mm(number), _number(address, "an address", 16))

    def _pte(self, number: int, address: str) -> str:
        return state.show_pte(self._session.kernel, self._session.tasks.mm(number), _number(address, "an address", 16))

    def _page(self, _: int, pfn: str) -> str:
        k = self._session.kernel
        with state.unnoticed(k):
            return state.show_page(k, _number(pfn, "a frame's number", 10))

    def _phys(self, _: int, address: str, length: str = "64") -> str:
        place, nr = _number(address, "a physical address", 16), _number(length, "a number of bytes", 10)
        if nr > MOST_DUMPED:
            raise UsageError(f"{nr} bytes: give {MOST_DUMPED} at most")
        return state.show_bytes(place, memory.read_physical(self._session.kernel, place, nr))

    def _lru(self, _: int) -> str:
        return state.show_lru(self._session.kernel)

    def _locks(self, _: int) -> str:
        return state.show_locks(self._session.kernel.machine.locks)

    def _tasks(self, _: int) -> str:
        tasks = self._session.tasks
        rows = [(number, tasks.name(number, entity), tasks.state(entity)) for number, entity in tasks.all().items()]
        return state.show_tasks(self._session.system, rows)

    def _ledger(self, _: int) -> str:
        return state.show_ledger(self._session.kernel)

    def _kernel(self, _: int) -> str:
        return state.show_kernel(self._session.system)

    def _break(self, _: int, name: str | None = None) -> str:
        session = self._session
        if name is None:
            set_ = f"stops at: {', '.join(session.verbs)}\n" if session.verbs else ""
            return set_ + textwrap.fill(f"functions: {', '.join(VERBS)}", 100) + "\n"
        session.add_verb(name)
        return f"stops at {name}\n"

    def _delete(self, _: int, name: str) -> str:
        self._session.remove_verb(name)
        return f"does not stop at {printable(name)} any more\n"

    def _step(self, _: int) -> str:
        self._session.wants_point()
        return "the next continue stops at the next point\n"


def _number(text: str, what: str, base: int) -> int:
    digits = text.lower().removeprefix("0x")
    try:
        number = int(digits, 16 if text.lower().startswith("0x") else base)
    except ValueError:
        then = (
            ', in hexadecimal; what gdb is to work out goes through eval: eval "monitor rmap %p", $sp'
            if base == 16
            else ""
        )
        raise UsageError(f"{printable(text)}: give {what}{then}") from None
    if not 0 <= number < 1 << 64 or not digits.isalnum():
        raise UsageError(f"{printable(text)}: give {what}")
    return number
