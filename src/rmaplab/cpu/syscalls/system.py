"""Who a program is, what machine it is on, and what it may have: mostly root on a kernel of today.

uname says 6.18, as long as the C libraries of today refuse older kernels, and behind it which kernel manages its memory.

Source: 6.18 kernel/sys.c, kernel/cred.c, kernel/sched/syscalls.c, arch/x86/kernel/process_64.c; include/uapi/linux/prctl.h, resource.h.
"""

import errno
import struct

from rmaplab.cpu.abi import int32
from rmaplab.cpu.process import Process
from rmaplab.cpu.syscalls.memory import PR_SET_VMA, name_vma
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError
from rmaplab.objects.flags import RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_NPROC, RLIMIT_STACK
from rmaplab.objects.limits import RLIM_INFINITY as INFINITY
from rmaplab.units import PAGE_SIZE

UTS_BYTES = 65
RLIMIT_NOFILE = 7
NR_LIMITS = 16
ARCH_SET_GS, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME = 1, 3, 4, 15, 16
MOST_RANDOM = 1 << 24


@call("getpid")
def sys_getpid(thread: Thread, *_: int) -> int:
    """getpid(2)."""
    return thread.process.pid


@call("gettid")
def sys_gettid(thread: Thread, *_: int) -> int:
    """gettid(2)."""
    return thread.task.pid


@call("getppid")
def sys_getppid(thread: Thread, *_: int) -> int:
    """getppid(2)."""
    return thread.process.parent.pid if thread.process.parent is not None else 0


@call("getuid", "geteuid", "getgid", "getegid", "getuid32", "geteuid32", "getgid32", "getegid32")
def sys_getuid(thread: Thread, *_: int) -> int:
    """getuid(2) and the like: root, or what setuid has made of it."""
    return thread.task.limits.uid


@call("setuid", "setuid32")
def sys_setuid(thread: Thread, uid: int, *_: int) -> int:
    """setuid(2)."""
    thread.task.setuid(uid & 0xFFFF_FFFF)
    return 0


@call(
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setresgid",
    "setresgid32",
    "setregid",
    "setregid32",
    "setfsuid",
    "setfsgid",
)
def sys_setgid(thread: Thread, *_: int) -> int:
    """setgid(2) and the like: groups mean nothing here."""
    return 0


@call("setresuid", "setresuid32", "setreuid", "setreuid32")
def sys_setresuid(thread: Thread, _: int, effective: int, *__: int) -> int:
    """setresuid(2): the effective one is all there is."""
    if int32(effective) != -1:
        thread.task.setuid(effective & 0xFFFF_FFFF)
    return 0


@call("getresuid", "getresuid32", "getresgid", "getresgid32")
def sys_getresuid(thread: Thread, real: int, effective: int, saved: int, *_: int) -> int:
    """getresuid(2)."""
    for place in (real, effective, saved):
        thread.put(place, struct.pack("<I", thread.task.limits.uid))
    return 0


@call("getgroups", "getgroups32")
def sys_getgroups(thread: Thread, room: int, *_: int) -> int:
    """getgroups(2): none."""
    if int32(room) < 0:
        raise SyscallError(errno.EINVAL, "getgroups")
    return 0


@call("capget", "capset")
def sys_capget(thread: Thread, *_: int) -> int:
    """capget(2)."""
    raise SyscallError(errno.EINVAL, "capget")


def _process(thread: Thread, pid: int) -> Process:
    process = thread.userland.processes.get(int32(pid) or thread.process.pid)
    if process is None:
        raise SyscallError(errno.ESRCH, "setpgid")
    return process


@call("setpgid")
def sys_setpgid(thread: Thread, pid: int, group: int, *_: int) -> int:
    """setpgid(2)."""
    if int32(group) < 0:
        raise SyscallError(errno.EINVAL, "setpgid")
    process = _process(thread, pid)
    process.pgid = int32(group) or process.pid
    return 0


@call("getpgid")
def sys_getpgid(thread: Thread, pid: int, *_: int) -> int:
    """getpgid(2)."""
    return _process(thread, pid).pgid


@call("getpgrp")
def sys_getpgrp(thread: Thread, *_: int) -> int:
    """getpgrp(2)."""
    return thread.process.pgid


@call("getsid")
def sys_getsid(thread: Thread, pid: int, *_: int) -> int:
    """getsid(2)."""
    return _process(thread, pid).sid


@call("setsid")
def sys_setsid(thread: Thread, *_: int) -> int:
    """setsid(2)."""
    process = thread.process
    process.sid = process.pgid = process.pid
    return process.pid


@call("uname")
def sys_uname(thread: Thread, place: int, *_: int) -> int:
    """uname(2)."""
    known = thread.userland.system.uname()
    machine = thread.abi.platform.decode()
    texts = ("Linux", known.nodename, thread.userland.release, known.version, machine, "(none)")
    thread.put(place, b"".join(text.encode()[: UTS_BYTES - 1].ljust(UTS_BYTES, b"\0") for text in texts))
    return 0


@call("sysinfo")
def sys_sysinfo(thread: Thread, place: int, *_: int) -> int:
    """sysinfo(2)."""
    found, now = thread.userland.system.meminfo(), thread.machine.sched.now_ns // 10**9
    sizes = [
        found.get(name, 0) << 10 for name in ("MemTotal", "MemFree", "MemShared", "Buffers", "SwapTotal", "SwapFree")
    ]
    head = thread.abi.words(now, 0, 0, 0, *(size // PAGE_SIZE for size in sizes))
    pad = 6 if thread.abi.bits == 64 else 2
    tail = (
        struct.pack("<HH", len(thread.userland.processes), 0)
        + bytes(pad - 2)
        + thread.abi.words(0, 0)
        + struct.pack("<I", PAGE_SIZE)
        + bytes(12)
    )
    thread.put(place, head + tail[: (112 if thread.abi.bits == 64 else 64) - len(head)])
    return 0


# -- limits --------------------------------------------------------------------------------------------------------------


def _limits(thread: Thread, resource: int) -> tuple[int, int]:
    """(soft, hard), INFINITY where there is none."""
    limits = thread.task.limits
    own = {
        RLIMIT_AS: limits.address_space,
        RLIMIT_DATA: limits.data,
        RLIMIT_STACK: limits.stack,
        RLIMIT_MEMLOCK: limits.memlock,
        RLIMIT_NPROC: limits.nproc,
    }
    if resource in own:
        return own[resource], INFINITY
    if resource == RLIMIT_NOFILE:
        return thread.process.descriptors.limit, 1 << 20
    return thread.process.limits.get(resource, (INFINITY, INFINITY))


def _set_limit(thread: Thread, resource: int, soft: int, hard: int) -> None:
    task = thread.task
    if soft > hard:
        raise SyscallError(errno.EINVAL, "setrlimit")
    setters = {
        RLIMIT_AS: task.limit_as, RLIMIT_DATA: task.limit_data, RLIMIT_STACK: task.limit_stack, RLIMIT_MEMLOCK: task.limit_memlock,
        RLIMIT_NPROC: task.limit_nproc,
    }  # fmt: skip
    if resource in setters:
        for member in thread.process.threads:
            getattr(member.task, setters[resource].__name__)(min(soft, INFINITY))
    elif resource == RLIMIT_NOFILE:
        if soft > 1 << 20:
            raise SyscallError(errno.EPERM, "setrlimit")
        thread.process.descriptors.limit = soft
    else:
        thread.process.limits[resource] = soft, hard


@call("prlimit64")
def sys_prlimit64(thread: Thread, pid: int, resource: int, new: int, old: int, *_: int) -> int:
    """prlimit64(2), of the caller."""
    if int32(pid) not in (0, thread.process.pid):
        raise SyscallError(errno.ESRCH, "prlimit64")
    if resource >= NR_LIMITS:
        raise SyscallError(errno.EINVAL, "prlimit64")
    wanted = struct.unpack("<QQ", thread.get(new, 16)) if new else None
    was = _limits(thread, resource)
    if wanted is not None:
        _set_limit(thread, resource, *wanted)
    if old:
        thread.put(old, struct.pack("<QQ", *((1 << 64) - 1 if limit >= INFINITY else limit for limit in was)))
    return 0


@call("getrlimit", "ugetrlimit")
def sys_getrlimit(thread: Thread, resource: int, place: int, *_: int) -> int:
    """getrlimit(2)."""
    if resource >= NR_LIMITS:
        raise SyscallError(errno.EINVAL, "getrlimit")
    most = (1 << thread.abi.bits) - 1
    thread.put(
        place,
        thread.abi.words(*(most if limit >= INFINITY else min(limit, most) for limit in _limits(thread, resource))),
    )
    return 0


@call("setrlimit")
def sys_setrlimit(thread: Thread, resource: int, place: int, *_: int) -> int:
    """setrlimit(2)."""
    if resource >= NR_LIMITS:
        raise SyscallError(errno.EINVAL, "setrlimit")
    most = (1 << thread.abi.bits) - 1
    soft, hard = (INFINITY if limit == most else limit for limit in thread.words(place, 2))
    _set_limit(thread, resource, soft, hard)
    return 0


# -- the CPU, the scheduler, and odd ends --------------------------------------------------------------------------------


@call("arch_prctl", abi=64)
def sys_arch_prctl(thread: Thread, code: int, address: int, *_: int) -> int:
    """arch_prctl(2): the base of fs."""
    if code == ARCH_SET_FS:
        if address >> 47:
            raise SyscallError(errno.EPERM, "arch_prctl")
        thread.registers.set_tls(address)
        thread.tls_base = address
        return 0
    if code == ARCH_GET_FS:
        thread.put(address, struct.pack("<Q", thread.tls_base))
        return 0
    raise SyscallError(errno.EINVAL, "arch_prctl")


@call("prctl")
def sys_prctl(thread: Thread, option: int, second: int, third: int, fourth: int, fifth: int, *_: int) -> int:
    """prctl(2): names of tasks and of memory."""
    if option == PR_SET_NAME:
        thread.process.name = thread.get(second, 16).split(b"\0", 1)[0][:15]
        return 0
    if option == PR_GET_NAME:
        thread.put(second, thread.process.name.ljust(16, b"\0"))
        return 0
    if option == PR_SET_VMA:
        return name_vma(thread, third, fourth, fifth)
    if option in (PR_SET_PDEATHSIG, PR_SET_DUMPABLE):
        return 0
    if option == PR_GET_DUMPABLE:
        return 1
    raise SyscallError(errno.EINVAL, "prctl")


@call("sched_yield")
def sys_sched_yield(thread: Thread, *_: int) -> int:
    """sched_yield(2)."""
    thread.spend()
    thread.task.need_resched = True
    thread.machine.end_call()
    return 0


@call("sched_getaffinity")
def sys_sched_getaffinity(thread: Thread, _: int, size: int, mask: int, *__: int) -> int:
    """sched_getaffinity(2): all CPUs."""
    nr, size = thread.machine.hardware.cpus, size & 0xFFFF_FFFF
    length = -(-nr // thread.abi.bits) * thread.abi.word
    if size < length or size % thread.abi.word:
        raise SyscallError(errno.EINVAL, "sched_getaffinity")
    thread.put(mask, ((1 << nr) - 1).to_bytes(length, "little"))
    return length


@call("sched_setaffinity", "sched_setscheduler", "sched_setparam", "setpriority", "ioprio_set", "membarrier")
def sys_sched_setaffinity(thread: Thread, *_: int) -> int:
    """sched_setaffinity(2) and the like: taken, and without effect."""
    return 0


@call("sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min", "ioprio_get")
def sys_sched_getscheduler(thread: Thread, *_: int) -> int:
    """sched_getscheduler(2): SCHED_OTHER."""
    return 0


@call("getpriority")
def sys_getpriority(thread: Thread, *_: int) -> int:
    """getpriority(2): nice 0."""
    return 20


@call("sched_getparam")
def sys_sched_getparam(thread: Thread, _: int, place: int, *__: int) -> int:
    """sched_getparam(2)."""
    thread.put(place, bytes(4))
    return 0


@call("getcpu")
def sys_getcpu(thread: Thread, cpu: int, node: int, *_: int) -> int:
    """getcpu(2)."""
    if cpu:
        thread.put(cpu, struct.pack("<I", thread.machine.sched.this_cpu()))
    if node:
        thread.put(node, bytes(4))
    return 0


@call("getrandom")
def sys_getrandom(thread: Thread, place: int, length: int, *_: int) -> int:
    """getrandom(2): the same bytes in every run."""
    length = min(length, MOST_RANDOM)
    thread.put(place, thread.userland.random_bytes(length))
    return length


@call("personality")
def sys_personality(thread: Thread, wanted: int, *_: int) -> int:
    """personality(2)."""
    was, wanted = thread.process.personality, wanted & 0xFFFF_FFFF
    if wanted != 0xFFFF_FFFF:
        thread.process.personality = wanted
    return was


@call("sethostname", "setdomainname", "syslog", "vhangup")
def sys_sethostname(thread: Thread, *_: int) -> int:
    """What this root may not."""
    raise SyscallError(errno.EPERM, "sethostname")


@call("rseq")
def sys_rseq(thread: Thread, *_: int) -> int:
    """rseq(2): as a kernel answers that was built without it."""
    raise SyscallError(errno.ENOSYS, "rseq")
