"""Settings of the machine that a zoo of memory needs, and what they were before: changed on a stack that changes them back."""

import contextlib
import ctypes
import fcntl
import os
import struct
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from .fork_tree import PAGE, libc, ok

MEMORY = Path("/sys/kernel/mm")
NR_HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")
NR_SWAP_PAGES = 2048


def alone(stack: ExitStack) -> None:
    """One at a time: waits until no other zoo runs on this machine; not for ever, since workers of one run may wait for each other."""
    lock = stack.enter_context((Path(tempfile.gettempdir()) / "rmaplab-zoo.lock").open("w"))
    give_up = time.monotonic() + 240
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)


def change(stack: ExitStack, folder: Path) -> dict[str, str]:
    """Huge pages to have, KSM at work, THP on advice, and swap. What cannot be had, and the machine's own word why."""
    missing = {}
    for name, work in (("hugetlb", _huge_pages), ("huge", _thp), ("small_folio", _mthp), ("ksm", _ksm)):
        try:
            work(stack)
        except OSError as error:
            missing[name] = said(error)
    try:
        _swap(stack, folder / "swap")
    except OSError as error:
        missing["swapped"] = missing["shared_swapped"] = said(error)
    return missing


def said(error: OSError) -> str:
    """What is printed of an error, its number first: EPERM and EACCES are a privilege, others a feature that is not there."""
    return f"{error.errno} {error.strerror}"


def _set(stack: ExitStack, path: Path, value: str, before: str) -> None:
    path.write_text(value)
    stack.callback(path.write_text, before)


def _huge_pages(stack: ExitStack) -> None:
    before = int(NR_HUGEPAGES.read_text())
    _set(stack, NR_HUGEPAGES, str(before + 2), str(before))
    if int(NR_HUGEPAGES.read_text()) != before + 2:
        raise OSError(12, "the machine found no two huge pages")


def _on_advice(stack: ExitStack, path: Path) -> None:
    if "[never]" in path.read_text():
        _set(stack, path, "madvise", "never")


def _thp(stack: ExitStack) -> None:
    _on_advice(stack, MEMORY / "transparent_hugepage/enabled")


def _mthp(stack: ExitStack) -> None:
    _on_advice(stack, MEMORY / "transparent_hugepage/hugepages-64kB/enabled")


def _ksm(stack: ExitStack) -> None:
    for name, value in (("pages_to_scan", "2000"), ("sleep_millisecs", "20"), ("run", "1")):
        path = MEMORY / "ksm" / name
        with contextlib.nullcontext() if name == "run" else contextlib.suppress(OSError):  # an advisor has them
            _set(stack, path, value, path.read_text().strip())


def _swap(stack: ExitStack, path: Path) -> None:
    """A file of its own, where the machine has no swap. Its header: mm/swapfile.c, include/linux/swap.h (union swap_header)."""
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        return
    with path.open("wb") as file:
        stack.callback(path.unlink)
        file.write(bytes(1024) + struct.pack("<III", 1, NR_SWAP_PAGES - 1, 0))
        file.write(bytes(PAGE - 10 - file.tell()) + b"SWAPSPACE2")
        file.write(bytes((NR_SWAP_PAGES - 1) * PAGE))
        file.flush()
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
    name = ctypes.c_char_p(os.fsencode(path))
    ok(libc.swapon(name, 0))
    stack.callback(libc.swapoff, name)
