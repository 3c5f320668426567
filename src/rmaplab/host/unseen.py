"""Whose memory is hidden from us, and what hides it: asked by doing, and only then explained.

    maps       the right to trace the process: its owner, or CAP_SYS_PTRACE where it lives
    pagemap    mode 0400 as well: its owner, or CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE
    map_files  CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN of the first user namespace

Sources: Linux Documentation/admin-guide/mm/pagemap.rst; kernel/ptrace.c (__ptrace_may_access), fs/proc/base.c.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from rmaplab.host import procfs
from rmaplab.host.procfs import Unread
from rmaplab.host.rights import CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, held_capabilities

_DAC_OVERRIDE = 1  # include/uapi/linux/capability.h
_FIRST_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO


def hidden() -> list[int]:
    """Processes whose VMAs or page tables we may not read; not those that have no memory."""
    refused = [pid for pid in procfs.processes() if _refused(f"{pid}/maps") or _refused(f"{pid}/pagemap")]
    return [pid for pid in refused if not isinstance(who := procfs.read_status(pid), Unread) and who.has_memory]


def are_hidden(pids: Sequence[int]) -> str:
    """Which of them, and why: the first sentence of a note."""
    which = f"pid {pids[0]} is" if len(pids) == 1 else f"{len(pids):,} processes are"
    return f"{which} not shown to us ({what_hides()})"


def what_hides() -> str:
    """Why another's process may be closed to us: the first thing that is missing, in words."""
    held = held_capabilities()
    traces, reads = held >> CAP_SYS_PTRACE & 1, held >> CAP_DAC_READ_SEARCH & 1 or held >> _DAC_OVERRIDE & 1
    if os.geteuid() and not (traces and reads):
        return "root sees other users' processes"
    if not traces:
        return "that takes CAP_SYS_PTRACE, which root has not got here"
    if not reads:
        return "that takes CAP_DAC_READ_SEARCH, which root has not got here"
    if not _is_first_user_namespace():
        return "our capabilities end with our user namespace"
    return "a security module or a sandbox refuses it, no capability is missing"


def _refused(name: str) -> bool:
    try:
        os.close(procfs.open_proc(name))
    except OSError as error:
        return procfs.why_unread(error) is Unread.REFUSED
    return False


def _is_first_user_namespace() -> bool:
    try:
        return Path("/proc/self/ns/user").readlink().name == _FIRST_USER_NAMESPACE
    except OSError:
        return True
