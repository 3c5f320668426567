"""What a booted kernel says of itself: uname(2). Source: 2.6.2 kernel/sys.c, sys_newuname; include/linux/utsname.h; scripts/mkcompile_h."""

from datetime import date
from typing import NamedTuple

from rmaplab.kernels.spec import KernelSpec


class Uname(NamedTuple):
    """What uname(2) tells."""

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str


def uname_of(spec: KernelSpec, word_bytes: int) -> Uname:
    """Of a kernel that was compiled on the day of its release. The release is cut at 64 characters, as Linux has room."""
    day = date.fromisoformat(spec.released)
    return Uname(
        "Linux",
        "rmaplab",
        spec.release[:64],
        f"#1 SMP {day:%a %b} {day.day:2d} 00:00:00 UTC {day.year}",
        "x86_64" if word_bytes == 8 else "i686",
    )
