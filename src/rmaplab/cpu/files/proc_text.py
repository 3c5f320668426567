"""Texts of /proc. Formats as 6.18 prints them; what is not modelled is 0.

Source: fs/proc/array.c, do_task_stat, proc_pid_status, proc_pid_statm; fs/proc/task_mmu.c, show_map_vma; fs/proc/stat.c, uptime.c, loadavg.c of 6.18; proc(5).
"""

from collections.abc import Callable
from typing import Any

from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.kernels.system import System
from rmaplab.objects.flags import VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

NS, TICK_NS = 10**9, 10**7
PATH_COLUMN = 73


def maps(process: Any, fs: FileSystem, path_of_mapping: Callable[[int], bytes]) -> bytes:
    """/proc/PID/maps. O(VMAs)."""
    mm = _mm(process)
    if mm is None:
        return b""
    lines = []
    for vma in mm.vmas:
        rights = "".join(
            letter if vma.flags & bit else "-" for letter, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))
        )
        shared = "s" if vma.flags & VM_MAYSHARE else "p"
        dev, ino, path = _file_of(vma, fs, path_of_mapping, mm, process)
        offset = vma.pgoff << PAGE_SHIFT if vma.file is not None else 0
        line = f"{vma.start:08x}-{vma.end:08x} {rights}{shared} {offset:08x} {dev >> 8:02x}:{dev & 0xFF:02x} {ino} ".encode()
        lines.append((line.ljust(PATH_COLUMN) + path if path else line) + b"\n")
    return b"".join(lines)


def _file_of(
    vma: VmArea, fs: FileSystem, path_of_mapping: Callable[[int], bytes], mm: MmStruct, process: Any
) -> tuple[int, int, bytes]:
    if vma.file is not None:
        address = vma.file.mapping.address
        inode = fs.by_mapping.get(address)
        if inode is not None:
            return inode.mount.dev, inode.ino, path_of_mapping(address).replace(b"\n", b"\\012")
        return 1, 1, b"/dev/zero (deleted)" if vma.flags & VM_MAYSHARE else b""
    if vma.start <= process.start_stack < vma.end:
        return 0, 0, b"[stack]"
    if mm.start_brk < vma.end and vma.start < mm.brk:
        return 0, 0, b"[heap]"
    return 0, 0, b""


def _mm(process: Any) -> MmStruct | None:
    return None if process.ended is not None or process.space is None else process.space.mm


def _pages(process: Any) -> tuple[int, int]:
    """Pages of its address space, and those that are there."""
    mm = _mm(process)
    return (0, 0) if mm is None else (mm.total_vm, mm.rss)


def stat_text(process: Any, system: System) -> bytes:
    """/proc/PID/stat: 52 fields."""
    size, rss = _pages(process)
    mm = _mm(process)
    state = "Z" if process.ended is not None else "R"
    parent = process.parent.pid if process.parent is not None else 0
    task = process.first_task
    started = task.start_ns // TICK_NS if task is not None else 0
    times = (process.user_ns, process.system_ns, process.children_user_ns, process.children_system_ns)
    fields = [
        parent,
        process.pgid,
        process.sid,
        0,
        -1,
        0x400000,
        process.min_faults,
        0,
        0,
        0,
        *(ns // TICK_NS for ns in times),
        20,
        0,
        len(process.threads),
        0,
        started,
    ]
    fields += [
        size * PAGE_SIZE,
        rss,
        (1 << 64) - 1,
        process.start_code,
        mm.start_brk if mm is not None else 0,
        process.start_stack,
    ]
    fields += [0] * (52 - 3 - len(fields))
    told: bytes = b"%d (%s) %s %s\n" % (process.pid, process.name, state.encode(), " ".join(map(str, fields)).encode())
    return told


def statm(process: Any) -> bytes:
    """/proc/PID/statm, in pages: the address space, what of it is there; files, text and data are not told apart."""
    size, rss = _pages(process)
    return b"%d %d 0 0 0 %d 0\n" % (size, rss, size)


def status_text(process: Any) -> bytes:
    """/proc/PID/status."""
    size, rss = _pages(process)
    uid = process.first_task.limits.uid if process.first_task is not None else 0
    state = "Z (zombie)" if process.ended is not None else "R (running)"
    parent = process.parent.pid if process.parent is not None else 0
    rows = [
        ("Umask", f"{process.umask:04o}"), ("State", state), ("Tgid", process.pid), ("Ngid", 0), ("Pid", process.pid), ("PPid", parent), ("TracerPid", 0),
        ("Uid", "\t".join([str(uid)] * 4)), ("Gid", "\t".join([str(uid)] * 4)), ("FDSize", 64), ("Groups", ""),
        ("VmSize", f"{size * PAGE_SIZE >> 10:8} kB"), ("VmRSS", f"{rss * PAGE_SIZE >> 10:8} kB"), ("Threads", len(process.threads)),
    ]  # fmt: skip
    name: bytes = process.name.replace(b"\n", b"\\n")
    return b"Name:\t" + name + b"\n" + "".join(f"{row}:\t{value}\n" for row, value in rows).encode()


def limits_text(nofile: int) -> bytes:
    """/proc/PID/limits, as far as files go."""
    head = f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"
    return (head + f"{'Max open files':<25} {nofile:<20} {1 << 20:<20} {'files':<10}\n").encode()


def cpuinfo(system: System) -> bytes:
    """/proc/cpuinfo: what our CPUs are like."""
    bits = 8 * system.machine.paging.word_bytes
    flags = "fpu tsc cx8 cmov mmx fxsr sse sse2" + (" syscall nx lm" if bits == 64 else "")
    one = "processor\t: {}\nvendor_id\t: rmaplab\nmodel name\t: simulated CPU of {} bits\ncpu MHz\t\t: 2400.000\nflags\t\t: {}\n\n"
    return "".join(one.format(i, bits, flags) for i in range(system.machine.hardware.cpus)).encode()


def uptime(system: System) -> bytes:
    """/proc/uptime: simulated seconds, and those in which CPUs were idle."""
    sched = system.machine.sched
    idle = max(sched.now_ns * system.machine.hardware.cpus - sched.user_ns - sched.system_ns, 0)
    return b"%d.%02d %d.%02d\n" % (sched.now_ns // NS, sched.now_ns // TICK_NS % 100, idle // NS, idle // TICK_NS % 100)


def loadavg(system: System) -> bytes:
    """/proc/loadavg: load is not averaged here."""
    return b"0.00 0.00 0.00 1/%d %d\n" % (len(system.kernel.tasks), system.kernel.last_pid)


def system_stat(system: System, now_ns: int) -> bytes:
    """/proc/stat: times of all CPUs in ticks, context switches, boot time, processes ever made."""
    sched, cpus = system.machine.sched, system.machine.hardware.cpus
    user, kernel = sched.user_ns // TICK_NS, sched.system_ns // TICK_NS
    idle = max(sched.now_ns * cpus // TICK_NS - user - kernel, 0)
    lines = [f"cpu  {user} 0 {kernel} {idle} 0 0 0 0 0 0"]
    lines += [f"cpu{i} {user // cpus} 0 {kernel // cpus} {idle // cpus} 0 0 0 0 0 0" for i in range(cpus)]
    lines += [
        f"ctxt {sched.nr_switches}",
        f"btime {(now_ns - sched.now_ns) // NS}",
        f"processes {system.kernel.nr_processes}",
    ]
    return ("\n".join(lines) + "\n").encode()
