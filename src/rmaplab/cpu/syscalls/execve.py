"""execve. The strings that it is given are read before anything is changed."""

import errno

from rmaplab.cpu.binfmt import MAX_ARG_BYTES, MOST_STRINGS
from rmaplab.cpu.start import execute
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError
from rmaplab.units import PAGE_SIZE

MAX_ARG_STRLEN = 131072


def _strings(thread: Thread, address: int) -> list[bytes]:
    """An array of pointers to strings, that ends with NULL. Raises SyscallError: EFAULT, E2BIG."""
    strings, total = list[bytes](), 0
    pointers, word = list[int](), thread.abi.word
    while address and len(strings) <= MOST_STRINGS:
        if not pointers:  # as many as the page has: it can be read as a whole, or not at all
            pointers = list(thread.words(address, max((PAGE_SIZE - address % PAGE_SIZE) // word, 1)))[::-1]
        pointer = pointers.pop()
        if not pointer:
            return strings
        try:
            strings.append(thread.string(pointer, MAX_ARG_STRLEN))
        except SyscallError as failure:
            raise SyscallError(errno.E2BIG if failure.errno == errno.ENAMETOOLONG else errno.EFAULT, "execve") from None
        total += len(strings[-1])
        if total > MAX_ARG_BYTES:
            break
        address += word
    if not address:
        return strings
    raise SyscallError(errno.E2BIG, "execve")


@call("execve")
def sys_execve(thread: Thread, path: int, arguments: int, environment: int, *_: int) -> int:
    """execve(2)."""
    thread.spend()
    name = thread.string(path)
    execute(thread, name, _strings(thread, arguments) or [b""], _strings(thread, environment))
    return 0
