"""A program for tests: `rmaplab ARGUMENTS...` in surroundings that lack something. surroundings.py STEP,STEP... ARGUMENTS...

    caps:2:19:21   only these capabilities         no-sys    nothing is mounted on /sys
    user           nobody (65534)                  no-proc   nor on /proc
    hidepid        /proc hides others' processes   pidns     a PID namespace with a /proc of its own
    old-proc       a PID namespace, and /proc is still that of the one outside

Everything is imported first: in these surroundings it may not be readable. Mounts are in a namespace of this program's own.
"""

import ctypes
import os
import struct
import sys
from importlib import (
    import_module,
    readers,  # noqa: F401  (importlib.resources wants it, late)
)

from rmaplab.cli import main
from rmaplab.kernels.designs import OURS, load_design

CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 1 << 18, 2
PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 4, 8
libc = ctypes.CDLL(None, use_errno=True)


def ok(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(kind: str, where: str, options: str = "") -> None:
    ok(libc.mount(kind.encode(), where.encode(), kind.encode(), 0, options.encode()))


def keep(numbers: list[str]) -> None:
    """Only these capabilities, permitted and effective."""
    kept = sum(1 << int(number) for number in numbers)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    ok(libc.capset(struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", low, low, 0, high, high, 0)))


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(65534)
    ok(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setuid(65534)
    ok(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))  # as after an exec: what is ours in /proc is ours


def into_a_pid_namespace() -> None:
    """The rest is done by a child; we pass on what becomes of it."""
    ok(libc.unshare(CLONE_NEWPID))
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def step(name: str) -> None:
    match name.split(":"):
        case ["caps", *numbers]:
            keep([number for number in numbers if number])
        case ["user"]:
            become_nobody()
        case ["no-sys"]:
            mount("tmpfs", "/sys")
        case ["no-proc"]:
            mount("tmpfs", "/proc")
        case ["hidepid"]:
            mount("proc", "/proc", "hidepid=2")
        case ["pidns"]:
            into_a_pid_namespace()
            mount("proc", "/proc")
        case ["old-proc"]:
            into_a_pid_namespace()
        case _:
            sys.exit(f"no step {name}")


if __name__ == "__main__":
    for module in ("cli.live", "cli.work.live", "cli.who", "cli.work.who"):
        import_module(f"rmaplab.{module}")
    for path in OURS.values():
        load_design(path)
    for late in ("csv", "difflib", "json", "rich.console", "shutil", "tempfile"):
        import_module(late)
    ok(libc.unshare(CLONE_NEWNS))
    ok(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    for each in sys.argv[1].split(","):
        step(each)
    main(sys.argv[2:])
