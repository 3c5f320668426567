"""Where a question points: what a person types, turned into a page of a process or of a file, or refused in one line.

rmaplab who 4242 7f3a1c400000       an address, in hex
rmaplab who 4242 '[heap]'           a name of /proc/4242/maps: the first page of it that is there
rmaplab who 4242 libc.so.6+27000    an offset from where the name begins
rmaplab who nginx '[heap]'          a name instead of a PID, if one process has it; self is this very process
rmaplab who 4242 7f3a-7f3c          a range as maps writes it: the first page of it that is there
"""

import contextlib
import difflib
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from rmaplab.errors import UsageError
from rmaplab.host import procfs
from rmaplab.host.pagemap import Pagemap
from rmaplab.host.procfs import PAGE_BYTES, HostVma, ProcStatus, Unread
from rmaplab.host.unseen import what_hides

_HEX = re.compile(r"(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)
_RANGE = re.compile(r"(?:0x)?([0-9a-f]{1,16})-(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)
_MOST_NAMED = 8


class Place(NamedTuple):
    """A page of a process: its address is the page's first byte."""

    pid: int
    comm: str
    address: int
    vma: HostVma


def find_pid(text: str) -> int:
    """A process, by its PID or the TID of a thread, by "self", or by a name that only one has. Raises UsageError."""
    if text == "self":
        return procfs.own_pid()
    with contextlib.suppress(ValueError):
        return int(text, 0)
    names = {pid: _names_of(pid) for pid in procfs.processes() if pid != procfs.own_pid()}
    found = [pid for pid, known in names.items() if text in known]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(map(str, found[:_MOST_NAMED])) + (" ..." if len(found) > _MOST_NAMED else "")
        raise UsageError(f"{len(found)} processes are called {text!r}: say which by its PID: {some}")
    near = difflib.get_close_matches(text, {name for known in names.values() for name in known}, n=1)
    raise UsageError(
        f"no process is called {text!r}: " + (f"did you mean {near[0]!r}?" if near else "ps -e lists those there are")
    )


def _names_of(pid: int) -> set[str]:
    """Its comm, of which the kernel keeps 15 bytes, and the file name of its first argument."""
    arguments = procfs.read_proc(f"{pid}/cmdline")
    first = b"" if isinstance(arguments, Unread) else arguments.split(b"\0", 1)[0]
    return {procfs.read_comm(pid), first.decode(errors="replace").rpartition("/")[2]} - {"", "?"}


def find_process(pid: int) -> tuple[int, ProcStatus, list[HostVma]]:
    """The PID (of a thread: of its process), who it is, its VMAs. Raises UsageError: one line per way to be wrong."""
    status = procfs.read_status(pid)
    if isinstance(status, Unread):
        raise UsageError(f"no process {pid}: ps -e lists those there are")
    pid = status.tgid  # a thread's TID is as good
    if status.is_kernel_thread:
        raise UsageError(f"pid {pid} ({status.comm}) is a kernel thread: it has no address space; ask by --pfn instead")
    vmas = procfs.read_maps(pid)
    if isinstance(vmas, Unread):
        raise UsageError(cannot_read(pid, status.comm, vmas))
    return pid, status, vmas


def find_place(pid: int, address: str) -> Place:
    """The page of process `pid` that `address` names. Raises UsageError: one line per way to be wrong."""
    pid, status, vmas = find_process(pid)
    at = _parse(pid, vmas, address)
    for vma in vmas:
        if vma.start <= at < vma.end:
            return Place(pid, status.comm, at & -PAGE_BYTES, vma)
    raise UsageError(f"nothing is mapped at {at:#x} in pid {pid} ({status.comm}): {_nearest(vmas, at)}")


def cannot_read(pid: int, comm: str, why: Unread) -> str:
    """One line on a process that gave no answer."""
    return (
        f"pid {pid} ({comm}) "
        + {
            Unread.ENDED: "ended while it was read: ps -e lists those that run",
            Unread.REFUSED: f"cannot be read ({what_hides()}): ask about a process of your own",
            Unread.NO_MEMORY: "has ended, its memory is gone: it only waits for its parent to notice",
            Unread.MISSING: "cannot be read: this kernel has no /proc/PID/pagemap (CONFIG_PROC_PAGE_MONITOR)",
        }[why]
    )


def _parse(pid: int, vmas: Sequence[HostVma], text: str) -> int:
    if number := _HEX.fullmatch(text):
        return int(number[1], 16)
    if span := _RANGE.fullmatch(text):
        start, end = int(span[1], 16), int(span[2], 16)
        return _first_present(pid, [(start, end)]) or start
    name, plus, offset = text.rpartition("+")
    name, offset = (name, offset) if plus and _HEX.fullmatch(offset) else (text, "")
    named = [vma for vma in vmas if vma.name and name in _names_of_vma(vma)]
    if not named:
        example = next((vma.name for vma in vmas if vma.name.startswith("[")), "[stack]")
        raise UsageError(
            f"{text!r} is no address in pid {pid}: write it in hex, such as {vmas[0].start:x}, or a name of "
            f"/proc/{pid}/maps, such as {shlex.quote(example)}"
        )
    if offset:
        return named[0].start + int(offset.lower().removeprefix("0x"), 16)
    return _first_present(pid, [(vma.start, vma.end) for vma in named]) or named[0].start


def _names_of_vma(vma: HostVma) -> tuple[str, ...]:
    """As maps has it, without the folder, and without the mark of a file that was deleted."""
    there = vma.name.removesuffix(" (deleted)")
    return vma.name, there, vma.name.rpartition("/")[2], there.rpartition("/")[2]


def _first_present(pid: int, spans: Sequence[tuple[int, int]]) -> int | None:
    with contextlib.suppress(OSError), Pagemap(pid) as pagemap:
        for span in spans:
            for start in pagemap.regions(*span)[:1, 0].tolist():
                return int(start)
    return None


def _nearest(vmas: Sequence[HostVma], address: int) -> str:
    below = [vma for vma in vmas if vma.end <= address][-1:]
    above = [vma for vma in vmas if vma.start > address][:1]
    parts = [f"the VMA below is {vma}" for vma in below] + [f"above {vma}" for vma in above]
    return ", ".join(parts)
