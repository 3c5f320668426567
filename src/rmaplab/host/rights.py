"""What we may see of other processes, found out by doing it: what is not tried is not claimed.

    is /proc there, and does it number processes as we are numbered?            readlink /proc/self
    do we see others at all?                                                    /proc/1/status (hidepid)
    do pagemaps open, and show page frames?                                     a page of our own, then TRIED of the others
    is it counted how often a page is mapped?                                   /proc/kpagecount

Capabilities are read only to say why something was refused: with CAP_SYS_ADMIN pagemap shows page frames, but to open that of somebody
else takes CAP_SYS_PTRACE and, as the file has mode 400, CAP_DAC_READ_SEARCH. Sources: fs/proc/task_mmu.c (pagemap_open,
pagemap_read), fs/proc/base.c (proc_mem_open; has_pid_permissions for hidepid), Documentation/filesystems/proc.rst.
"""

import os

from rmaplab.host import procfs
from rmaplab.host.pagemap import can_see_pfns, read_per_pfn
from rmaplab.host.procfs import Unread, read_fields, read_proc

TRIED, NAMED = 256, 3
HAS_MEMORY = b"\nVmRSS:"
CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 2, 19, 21
NO_PROC = "/proc is not mounted, where processes and their memory are shown (mount -t proc proc /proc)"


def proc_is_mounted() -> bool:
    """Whether there is a /proc, and we are in it."""
    return os.path.lexists("/proc/self/status")


def proc_is_of_our_namespace() -> bool:
    """Whether /proc numbers processes as the kernel does for us: it shows the PID namespace it was mounted in."""
    return not proc_is_mounted() or procfs.own_pid() == os.getpid()


def others_are_hidden() -> bool:
    """Whether /proc was mounted with hidepid, and not for us: then not even pid 1 shows its status."""
    return proc_is_mounted() and isinstance(read_proc("1/status"), Unread)


def why_no_pages() -> tuple[list[str], list[str]]:
    """Why page frames of most other processes are not ours to see; nothing if they are, and then why those of a few are not."""
    if not proc_is_mounted():
        return [NO_PROC], []
    why = [] if can_see_pfns() else [_why_no_pfns()]
    if others_are_hidden():
        why.append("other users' processes are hidden: /proc is mounted with hidepid (CAP_SYS_PTRACE would show them)")
    refused, tried = ([], 0) if why else try_pagemaps()
    of_some = [why_refused(refused, tried)] if refused else []
    return (why + of_some, []) if 2 * len(refused) > tried else (why, of_some)


def why_no_counts() -> list[str]:
    """Why it is not known how often a page is mapped; nothing if it is."""
    words = read_per_pfn("kpagecount", [1])
    if not isinstance(words, Unread):
        return []
    needs = "CONFIG_PROC_PAGE_MONITOR" if words is Unread.MISSING else _needs(CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN)
    return [f"/proc/kpagecount, which says how often a page is mapped, cannot be read: {needs}"]


def what_is_hidden() -> list[str]:
    """What no rung shows: processes outside of our PID namespace."""
    if not proc_is_mounted() or procfs.is_first_pid_namespace():
        return []
    return ["processes outside of this PID namespace are not seen, though they may map the same pages"]


def try_pagemaps() -> tuple[list[int], int]:
    """Processes whose pagemap is refused, of TRIED at most, spread over all that have memory; and how many were tried."""
    own = procfs.own_pid()
    pids = [pid for pid in procfs.processes() if pid != own]
    step = -(-len(pids) // TRIED)
    spread = (pid for first in range(step) for pid in pids[first::step])  # zombies may be most of them
    refused, tried = [], 0
    for pid in spread:
        if tried == TRIED:
            break
        status = read_proc(f"{pid}/status")
        if isinstance(status, Unread) or HAS_MEMORY not in status:
            continue
        tried += 1
        try:
            os.close(procfs.open_proc(f"{pid}/pagemap"))
        except OSError as error:
            refused += [pid] if procfs.why_unread(error) is Unread.REFUSED else []
    return refused, tried


def why_refused(refused: list[int], tried: int) -> str:
    """In words, what is not seen of these processes, and what it would take."""
    whose = f"{'all' if len(refused) == tried else f'{len(refused):,} of'} {tried:,} other processes tried"
    if len(refused) <= NAMED:
        whose = f"pid {', '.join(map(str, refused))}"
    maps_open = not isinstance(read_proc(f"{refused[0]}/maps"), Unread)  # not a matter of tracing: of the file's mode
    needs = _needs(CAP_DAC_READ_SEARCH) if maps_open else _needs(CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH)
    return f"pages of {whose} are not ours to see (/proc/PID/pagemap): {needs}"


def _why_no_pfns() -> str:
    if isinstance(read_proc(f"{procfs.own_pid()}/maps"), Unread):
        return "/proc/self/maps cannot be read: memory is not shown to us"
    try:
        os.close(procfs.open_proc(f"{procfs.own_pid()}/pagemap"))
    except OSError as error:
        missing = procfs.why_unread(error) is Unread.MISSING
        needs = "CONFIG_PROC_PAGE_MONITOR" if missing else _needs(CAP_DAC_READ_SEARCH)
        return f"not even our own pagemap can be opened: {needs}"
    return f"page frame numbers are hidden: {_needs(CAP_SYS_ADMIN)}"


def held_capabilities() -> int:
    """Those that we have, as bits (CapEff)."""
    return int(read_fields(f"{procfs.own_pid()}/status").get("CapEff", "0"), 16)


def _needs(*capabilities: int) -> str:
    """The capabilities of these that we have not got; if we have them all, who else it may be that refuses."""
    names = {
        CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
        CAP_SYS_PTRACE: "CAP_SYS_PTRACE",
        CAP_SYS_ADMIN: "CAP_SYS_ADMIN",
    }
    held = held_capabilities()
    lacking = [names[each] for each in capabilities if not held >> each & 1]
    if lacking:
        return f"it takes {' and '.join(lacking)} (run as root)"
    return "refused in spite of our capabilities (a user namespace, or a security module)"
