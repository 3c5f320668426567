"""What can go wrong, told apart by whose fault it is.

the simulated program's     SyscallError, SegmentationFault, BusError      Linux would say so too
the simulated machine's     NoMemory, Hung, OomKilled, DiskError           memory ran out, a disk failed
ours                        KernelBug                                      an impossible state, as a panic
the simulated kernel's      Oops                                           a BUG() of its own source: the task that has met it dies
the user's                  UsageError, NotModelled                        one line and a next step, exit code 2
"""

import errno as errno_names
import os
from collections.abc import Iterable


class RmaplabError(Exception):
    """Base of everything this package raises on purpose, except SyscallError (which is an OSError)."""


class UsageError(RmaplabError):
    """The request makes no sense; the message is one line that ends with the next thing to try."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """To go behind "no such thing NAME": " (did you mean X?)", or nothing where nothing is like it."""
    import difflib  # noqa: PLC0415  (who types no mistake does without)

    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    return f" (did you mean {folded[near[0]]}?)" if near else ""


class BoundReached(UsageError):
    """What was run has gone as far as it was allowed to; the message says which bound it was."""


class KilledByDebugger(BoundReached):
    """gdb has said kill: the run ends where it stands."""


class NotModelled(UsageError):
    """Linux could do it and this version cannot, such as huge pages. A UsageError, so that nobody takes it for an errno."""


def errno_name(number: int) -> str:
    """An errno's name, as the kernel has it; the number, negative, where it has none."""
    if number == errno_names.EOPNOTSUPP:  # which Python calls ENOTSUP
        return "EOPNOTSUPP"
    return errno_names.errorcode.get(number, str(-number))


class SyscallError(OSError):
    """A simulated system call failed.

    A type of its own, so that an ENOMEM of the host can never pass for a simulated one. `errno` is Linux's number,
    `name` its name ("ENOMEM") and `call` the system call that returned it. `why` is the rule that has refused, with its figures, from where
    it was asked; "" where the errno says it all.
    """

    def __init__(self, errno: int, call: str, why: str = "") -> None:
        super().__init__(errno, f"{call}: {why or os.strerror(errno)}")
        self.call, self.why = call, why

    @property
    def name(self) -> str:
        """The errno's name, such as "ENOMEM"; its number, negative, where it has none."""
        return errno_name(self.errno or 0)


class SegmentationFault(RmaplabError):
    """SIGSEGV: a task touched an address that its address space does not allow.

    `address` is the first offending byte, `cause` says why in words, `code` is its si_code: MAPERR (nothing is mapped there), ACCERR (a
    mapping does not allow it) or KERNEL (SI_KERNEL: it is no address).
    """

    def __init__(self, address: int, cause: str, code: str = "MAPERR") -> None:
        super().__init__(f"SIGSEGV at {address:#x}: {cause}")
        self.address = address
        self.cause = cause
        self.code = code


class BusError(SegmentationFault):
    """SIGBUS: the address is mapped, but what it shows is not there: a page of a file behind its end."""

    def __str__(self) -> str:
        """As a SegmentationFault, but for the signal."""
        return super().__str__().replace("SIGSEGV", "SIGBUS", 1)


class DiskError(RmaplabError):
    """A file's store could not read or write a page: EIO of a call, SIGBUS of a fault."""


class NoSpace(DiskError):
    """A file that lives in memory may not have one page more: ENOSPC of a call, SIGBUS of a fault."""


class NoMemory(RmaplabError):
    """An allocation was not met.

    With `waiting_helps` the kernel would go on trying, and nothing is installed to reclaim memory with: whoever catches it undoes what
    it has done and raises it again. Without, the allocator returned NULL, and the caller turns that into what Linux makes of it: ENOMEM,
    or a task that dies. Where a call had done too much to undo it when it came to wait, `undone` is false: what it has mapped or
    moved is there, and no kernel returns to say where.
    """

    undone = True

    def __init__(self, what: str, *, waiting_helps: bool = False) -> None:
        super().__init__(what)
        self.waiting_helps = waiting_helps

    def or_errno(self, errno: int, call: str, why: str = "") -> Exception:
        """What a system call raises for it: its errno, or this itself where a kernel would not return."""
        return self if self.waiting_helps else SyscallError(errno, call, f"{why or 'no memory'}: {self}")


def as_errno(failure: NoMemory | SyscallError, errno: int, call: str) -> Exception:
    """What a system call raises whose work has failed so: an errno it has already, or that of NoMemory.or_errno."""
    return failure.or_errno(errno, call) if isinstance(failure, NoMemory) else failure


class Hung(NoMemory):
    """An allocation is tried for ever: nothing has been freed for a minute of simulated time, and nobody is killed for it. `why` says who loops."""

    def __init__(self, why: str) -> None:
        super().__init__(f"hung: {why}", waiting_helps=True)
        self.why = why


class OomKilled(RmaplabError):
    """The out-of-memory killer chose this task."""


class Oops(RmaplabError):
    """The simulated kernel's own BUG(), at `where`: a check of the day that this kernel makes and that failed. The running task dies of it.

    What it holds it holds for ever. (What should never happen to us is a KernelBug.)
    """

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"kernel BUG in {where}: {what}")
        self.where = where


class KernelBug(RmaplabError):
    """A state that cannot be: what BUG() would have printed, with the name of the function that noticed."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(where, what)  # as it was given: so it gets through a pipe
        self.where = where

    def __str__(self) -> str:
        return ": ".join(self.args)
