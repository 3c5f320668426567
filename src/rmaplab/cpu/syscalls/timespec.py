"""struct timespec and struct timeval in a program's memory: two longs, or two words of 64 bits (_time64).

Source: include/linux/time64.h, timespec64_valid; kernel/time/time.c, get_timespec64, of 6.18.
"""

import errno
import struct

from rmaplab.cpu.abi import NS
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError

US = 1000
MOST_SECONDS = 1 << 33
"""More than any machine runs, epoch included: nanoseconds stay within 64 bits with a sign."""


def _layout(width: int) -> str:
    return "<qq" if width == 8 else "<ii"


def get_timespec(thread: Thread, address: int, width: int) -> int:
    """In ns, `width` bytes a number. Raises SyscallError: EFAULT; EINVAL: it is negative, or has too many ns."""
    seconds, ns = struct.unpack(_layout(width), thread.get(address, 2 * width))
    if thread.abi.bits == 32 and width == 8:
        ns &= 0xFFFF_FFFF  # tv_nsec is a long there, and what is behind it anything
    if seconds < 0 or not 0 <= ns < NS:
        raise SyscallError(errno.EINVAL, "nanosleep")
    return int(min(seconds, MOST_SECONDS) * NS + ns)


def put_timespec(thread: Thread, address: int, ns: int, width: int, unit: int = 1) -> None:
    """Likewise; with `unit` US it is a struct timeval. Raises SyscallError(EFAULT)."""
    thread.put(address, struct.pack(_layout(width), ns // NS, ns % NS // unit))


def get_timeval(thread: Thread, address: int, width: int) -> int:
    """In ns; the microseconds may be more than a second. Raises SyscallError: EFAULT; EINVAL: it is negative."""
    seconds, us = struct.unpack(_layout(width), thread.get(address, 2 * width))
    if seconds < 0 or us < 0:
        raise SyscallError(errno.EINVAL, "select")
    return int(min(seconds, MOST_SECONDS) * NS + min(us * US, MOST_SECONDS * NS))
