"""What a task can ask of its memory: each call here is one line of a program; the work is done below, in mm/.

A call that changes the address space runs under mmap_sem. What it wants faulted in (MAP_POPULATE, MAP_LOCKED, mlock) comes
afterwards, when mmap_sem is free again, as in Linux.

A kernel that does not know a call or a flag answers as it did then: mlock2 with ENOSYS before 4.4, an unknown advice with EINVAL;
unknown MAP_ bits are ignored. What Linux knows and this version does not raises NotModelled, never an errno.
"""

import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

from rmaplab.errors import NoMemory, OomKilled, Oops, SyscallError, UsageError
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.mm.access import copy_from_user, copy_to_user, execute, read_bytes, write_bytes
from rmaplab.mm.anon_name import do_set_anon_name
from rmaplab.mm.fault import touch
from rmaplab.mm.fremap import do_remap_file_pages
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.madvise import check_access, check_range, check_remote, do_madvise, import_ranges, is_known
from rmaplab.mm.mempolicy import do_mbind
from rmaplab.mm.mincore import do_mincore, do_msync
from rmaplab.mm.mlock import do_mlock, do_mlockall, do_munlock, do_munlockall
from rmaplab.mm.mmap import do_brk, do_mmap
from rmaplab.mm.mprotect import do_mprotect
from rmaplab.mm.mremap import do_mremap
from rmaplab.mm.mseal import do_mseal
from rmaplab.mm.munmap import do_munmap
from rmaplab.mm.populate import madvise_populate, mm_populate, populate_locked
from rmaplab.mm.process import die, end_group, oops, set_user
from rmaplab.objects.flags import (
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MREMAP_MAYMOVE,
    MS_SYNC,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import File, MmStruct, Range
from rmaplab.objects.task import TaskStruct
from rmaplab.units import parse_size

R = TypeVar("R")
SIGKILL, SIGSEGV = 9, 11


class MemoryCalls(TaskStruct):
    """The memory calls of a task."""

    kernel: Kernel

    def mmap(
        self,
        length: int | str,
        prot: int = PROT_READ | PROT_WRITE,
        flags: int | None = None,
        address: int = 0,
        *,
        file: int | None = None,
        pgoff: int = 0,
    ) -> int:
        """mmap(2) of anonymous memory, private or shared, or of the `file` that a descriptor means, from its page `pgoff` on: the address it got.

        `length` in bytes, or as "512M".

        `address` is a hint, or with MAP_FIXED an order. `flags` are MAP_PRIVATE if not given, of a file or not. What is anonymous and MAP_SHARED
        is an object of its own, which goes with the last VMA. Raises SyscallError: EINVAL, ENOMEM; of files also EBADF, EACCES, EOVERFLOW, EOPNOTSUPP;
        of shared memory ENFILE, ENOSPC.
        """
        if flags is None:
            flags = MAP_PRIVATE | (MAP_ANONYMOUS if file is None else 0)
        if flags & MAP_ANONYMOUS:
            file = None
        if file is None:
            if not flags & MAP_ANONYMOUS:
                raise SyscallError(errno.EBADF, "mmap", "neither a file nor MAP_ANONYMOUS")
            return self.mmap_opened(parse_size(length), prot, flags, address, None, pgoff)
        return self.mmap_opened(parse_size(length), prot, flags, address, self.opened("mmap", file), pgoff)

    def mmap_opened(self, length: int, prot: int, flags: int, address: int, opened: File | None, pgoff: int) -> int:
        """mmap(2) of an open file that no descriptor of Task's means, or of none: programs under exec have descriptors of their own (cpu/). Raises as mmap()."""
        return self._call_and_populate(do_mmap, address, length, prot, flags, opened, pgoff)

    def munmap(self, address: int, length: int | str) -> None:
        """munmap(2). Raises SyscallError: EINVAL, or ENOMEM where a VMA must be split and cannot be."""
        self._call(do_munmap, address, parse_size(length))

    def mprotect(self, address: int, length: int | str, prot: int) -> None:
        """mprotect(2). Raises SyscallError: EINVAL, ENOMEM; VMAs before the failing one are changed."""
        self._call(do_mprotect, self.limits, address, parse_size(length), prot)

    def mremap(
        self,
        address: int,
        old_length: int | str,
        new_length: int | str,
        flags: int = MREMAP_MAYMOVE,
        new_address: int = 0,
    ) -> int:
        """mremap(2): the mapping's address. Raises SyscallError: EINVAL, EFAULT, ENOMEM, EAGAIN."""
        lengths = parse_size(old_length), parse_size(new_length)
        return self._call_and_populate(do_mremap, address, *lengths, flags, new_address)

    def remap_file_pages(self, address: int, length: int | str, prot: int = 0, pgoff: int = 0, flags: int = 0) -> None:
        """remap_file_pages(2): a stretch of a shared mapping shows its file from page `pgoff` on. `flags`: MAP_NONBLOCK.

        Raises SyscallError: EINVAL, ENOMEM; ENOSYS before 2.5.46, and since 4.0 as mmap.
        """
        self._call_and_populate(do_remap_file_pages, address, parse_size(length), prot, pgoff, flags)

    def brk(self, address: int = 0) -> int:
        """brk(2): move the end of the heap, or ask where it is (0). Raises SyscallError(ENOMEM); the heap is as before."""
        return self._call_and_populate(do_brk, address)

    def madvise(self, address: int, length: int | str, advice: int) -> None:
        """madvise(2). Raises SyscallError: EINVAL, ENOMEM, EAGAIN; NotModelled: huge pages, poisoned ones."""
        size = parse_size(length)
        if advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE) and is_known(self.kernel, advice):
            end = check_range(self.kernel, address, size, advice)
            self._call(madvise_populate, address, end, advice == MADV_POPULATE_WRITE, write=False)
        else:
            self._call(do_madvise, address, size, advice)

    def process_madvise(self, who: TaskStruct, ranges: Sequence[Range], advice: int) -> int:
        """process_madvise(2): advice about (address, bytes) after (address, bytes) of another task's memory, or of its own.

        Returns how many bytes of the first ranges could be advised. Raises SyscallError where the first of all could not: EFAULT (beyond
        all addresses), ESRCH, EACCES (not ours to look at), EINVAL (of others one may only say what destroys nothing), EPERM, as madvise; ENOSYS before 5.10.
        """
        k, own = self.kernel, self._mm()
        if not k.rules.process_madvise_known:
            raise SyscallError(errno.ENOSYS, "process_madvise")
        ranges = import_ranges(k, ranges)
        if who.mm is None:
            raise SyscallError(errno.ESRCH, "process_madvise")
        if who.mm is not own:
            check_access(self.limits, who.leader.limits, who.mm)
        if who.mm is not own or not k.rules.process_madvise_own_freely:
            check_remote(k, self.limits, advice, other=who.mm is not own)
        advised = 0
        for address, length in ranges:
            try:
                if who.mm is own:
                    self.madvise(address, length, advice)
                else:
                    self._call_in(who.mm, do_madvise, address, length, advice)
            except SyscallError:
                if not advised:
                    raise
                break
            advised += length
        return advised

    def mlock(self, address: int, length: int | str) -> None:
        """mlock(2). Raises SyscallError: EPERM, ENOMEM, EAGAIN; VMAs before a hole are locked."""
        self._mlock(address, parse_size(length), 0)

    def mlock2(self, address: int, length: int | str, flags: int = 0) -> None:
        """mlock2(2), with MLOCK_ONFAULT. Raises as mlock, and EINVAL; ENOSYS before Linux 4.4."""
        if not self.kernel.rules.mlock2_known:
            raise SyscallError(errno.ENOSYS, "mlock2")
        self._mlock(address, parse_size(length), flags)

    def _mlock(self, address: int, length: int, flags: int) -> None:
        try:
            populate = self._locked(do_mlock, self.limits, address, length, flags)
            if populate is not None:
                self._locked(populate_locked, *populate, write=False)
        finally:
            self.kernel.machine.end_call()

    def munlock(self, address: int, length: int | str) -> None:
        """munlock(2). Raises SyscallError: ENOMEM (a hole)."""
        self._call(do_munlock, address, parse_size(length))

    def mlockall(self, flags: int) -> None:
        """mlockall(2): MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT. Raises SyscallError: EINVAL, EPERM, ENOMEM."""
        self._call_and_populate(do_mlockall, flags)

    def munlockall(self) -> None:
        """munlockall(2). Raises SyscallError(EPERM), up to 2.6.8."""
        self._call_and_populate(do_munlockall)

    def mseal(self, address: int, length: int | str, flags: int = 0) -> None:
        """mseal(2): nobody changes these mappings any more. Raises SyscallError: EINVAL, ENOMEM; ENOSYS before Linux 6.10."""
        if not self.kernel.rules.mseal_known:
            raise SyscallError(errno.ENOSYS, "mseal")
        self._call(do_mseal, address, parse_size(length), flags)

    def mbind(self, address: int, length: int | str, mode: int, nodes: int = 0, flags: int = 0) -> None:
        """mbind(2): a memory policy; `nodes` is a mask, of which only node 0 is there. Raises SyscallError: EINVAL, EPERM, EFAULT, EIO, ENOMEM.

        ENOSYS before 2.6.7; NotModelled where pages would move.
        """
        if not self.kernel.rules.mbind_known:
            raise SyscallError(errno.ENOSYS, "mbind")
        self._call(do_mbind, self.limits, address, parse_size(length), mode, nodes, flags)

    def set_vma_name(self, address: int, length: int | str, name: str | None) -> None:
        """prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME): None takes the name back. Raises SyscallError: EINVAL (before 5.17 always), EBADF, ENOMEM, EAGAIN."""
        if not self.kernel.rules.anon_names_known:
            raise SyscallError(errno.EINVAL, "prctl")
        size = parse_size(length)
        self._call(lambda k, mm: do_set_anon_name(k, mm, address, size, name))

    def mincore(self, address: int, length: int | str) -> list[bool]:
        """mincore(2): for every page whether it is in memory. Raises SyscallError: EINVAL, ENOMEM."""
        return self._call(do_mincore, address, parse_size(length), write=False)

    def msync(self, address: int, length: int | str, flags: int = MS_SYNC) -> None:
        """msync(2). Raises SyscallError: EINVAL, EBUSY, ENOMEM."""
        self._call(do_msync, address, parse_size(length), flags, write=False)

    def limit_as(self, limit: int | str) -> None:
        """setrlimit(RLIMIT_AS): bytes of address space, from now on and for children."""
        self._mm()
        for task in (self.leader, *self.leader.threads):
            task.limits.address_space = parse_size(limit)

    def limit_data(self, limit: int | str) -> None:
        """setrlimit(RLIMIT_DATA): bytes of heap, since 4.7 of all private writable memory, from now on and for children."""
        self._mm()
        for task in (self.leader, *self.leader.threads):
            task.limits.data = parse_size(limit)

    def limit_memlock(self, limit: int | str) -> None:
        """setrlimit(RLIMIT_MEMLOCK): bytes that may be locked, from now on and by children."""
        self._mm()
        for task in (self.leader, *self.leader.threads):
            task.limits.memlock = parse_size(limit)

    def limit_stack(self, limit: int | str) -> None:
        """setrlimit(RLIMIT_STACK): bytes that a mapping may have that grows down, from now on and for children."""
        self._mm()
        for task in (self.leader, *self.leader.threads):
            task.limits.stack = parse_size(limit)

    def limit_nproc(self, limit: int) -> None:
        """setrlimit(RLIMIT_NPROC): tasks that its user may have when it makes one, or its child does; root is not bound."""
        self._mm()
        for task in (self.leader, *self.leader.threads):
            task.limits.nproc = limit

    def cap_ipc_lock(self, *, granted: bool) -> None:
        """Give the task CAP_IPC_LOCK, or take it away; children inherit it. A first task has none."""
        self._mm()
        self.limits.may_lock = granted

    def setuid(self, uid: int) -> None:
        """setuid(2): from root on an ordinary user, for good, without capabilities: limits bind, and execve gives nothing back.

        Raises SyscallError: EPERM, where the task is not root and not `uid`; in 2.6 EAGAIN, where that user has too many tasks. Since 3.1
        the next execve fails then, if it is still so.
        """
        k, rules = self.kernel, self.kernel.rules
        mm = self._mm()
        if self.limits.uid not in (0, uid):
            raise SyscallError(errno.EPERM, "setuid")
        if uid and uid != self.limits.uid:
            nr, most = k.tasks_of_user[uid], self.limits.nproc
            if rules.setuid_minds_nproc and nr >= most:
                raise SyscallError(errno.EAGAIN, "setuid", f"user {uid} has {nr} tasks, and RLIMIT_NPROC is {most}")
            self.limits.nproc_exceeded = rules.execve_minds_nproc and nr > most
        if uid and not self.limits.uid:  # cap_emulate_setxuid; in 2004 cap_task_post_setuid
            self.limits.may_lock = False
        mm.dumpable = mm.dumpable and uid == self.limits.uid  # commit_creds
        set_user(k, self, uid)

    def read(self, address: int, length: int = 1) -> bytes:
        """Load `length` bytes. Raises SegmentationFault, OomKilled."""
        return self._access(read_bytes, address, length)

    def write(self, address: int, data: bytes) -> None:
        """Store `data`. Raises SegmentationFault, with the bytes before the bad address stored, and OomKilled."""
        self._access(write_bytes, address, data)

    def copy_from_user(self, address: int, length: int | str) -> bytes:
        """The kernel reads the task's memory, as write(2) of it does: the bytes before the first that it may not read.

        Raises SyscallError: EFAULT, where it may read none.
        """
        return self._copy(copy_from_user, address, parse_size(length))

    def copy_to_user(self, address: int, data: bytes) -> int:
        """The kernel writes into the task's memory, as read(2) does: how many bytes, before the first that it may not write.

        Raises SyscallError: EFAULT, where it may write none.
        """
        return self._copy(copy_to_user, address, data)

    def touch(self, address: int, length: int | str, *, write: bool = False) -> None:
        """Read a byte of every page of the range, or write it back unchanged; in bulk. Raises SegmentationFault, OomKilled."""
        end = address + parse_size(length)
        self._access(touch, address, end, write)

    def execute(self, address: int, length: int | str = 1) -> None:
        """Fetch an instruction from every page of the range. Raises SegmentationFault, OomKilled."""
        end = address + parse_size(length)
        self._access(execute, address, end)

    # -- inside --------------------------------------------------------------------------------------------------

    def _mm(self) -> MmStruct:
        if self.mm is None:
            raise UsageError(f"task {self.pid} has exited: use one that lives")
        child = self.vfork_child
        if child is not None and self.kernel.machine.sched.current is None:
            raise UsageError(f"task {self.pid} waits for its vfork child: let task {child.pid} exit() first")
        self.kernel.driven = self
        return self.mm

    def _runs(self) -> bool:
        current: SchedEntity | None = self.kernel.machine.sched.current
        return current is self

    def _call(self, call: Callable[..., R], *arguments: int | Limits, write: bool = True) -> R:
        """A system call: under mmap_sem, and back to user mode however it ends."""
        return self._call_in(self._mm(), call, *arguments, write=write)

    def _call_in(self, mm: MmStruct, call: Callable[..., R], *arguments: int | Limits, write: bool = True) -> R:
        try:
            return self._locked_in(mm, call, *arguments, write=write)
        finally:
            self.kernel.machine.end_call()

    def _locked(self, call: Callable[..., R], *arguments: int | Limits, write: bool = True) -> R:
        return self._locked_in(self._mm(), call, *arguments, write=write)

    def _locked_in(
        self, mm: MmStruct, call: Callable[..., R], *arguments: int | Limits | File | None, write: bool = True
    ) -> R:
        """With mmap_sem held; a BUG() below ends the task, and perhaps the lock is never dropped."""
        locks, lock = self.kernel.machine.locks, mm.mmap_sem
        locks.take(lock, write=write)
        try:
            result = call(self.kernel, mm, *arguments)
        except Oops:
            oops(self.kernel, self)
            raise
        except BaseException:
            locks.drop(lock)
            raise
        locks.drop(lock)
        return result

    def opened(self, call: str, fd: int) -> File:
        """What a descriptor means. Raises SyscallError(EBADF)."""
        self._mm()
        if fd not in self.files.fd:
            raise SyscallError(errno.EBADF, call, f"{fd} is no descriptor")
        return self.files.fd[fd]

    def _call_and_populate(
        self, call: Callable[..., tuple[R, tuple[int, ...] | None]], *arguments: int | File | None
    ) -> R:
        """A system call that obeys the task's limits and says what it wants faulted in: that comes when mmap_sem is free again."""
        k, mm = self.kernel, self._mm()
        try:
            result, populate = self._locked_in(mm, call, self.limits, *arguments)
            if populate is not None:
                self._locked(mm_populate, *populate, write=False)
        finally:
            k.machine.end_call()
        return result

    def _copy(self, copy: Callable[..., R], *arguments: int | bytes) -> R:
        """A system call that has no lock of the address space but those of its faults."""
        try:
            return copy(self.kernel, self._mm(), self.limits, *arguments)
        except Oops:
            die(self.kernel, self)
            raise
        finally:
            self.kernel.machine.end_call()

    def _access(self, access: Callable[..., R], *arguments: int | bytes) -> R:
        """A load or a store; a fault that gets no memory kills the task (VM_FAULT_OOM), or is tried again."""
        while True:
            try:
                return access(self.kernel, self._mm(), self.limits, *arguments)
            except Oops:
                die(self.kernel, self)
                raise
            except NoMemory as failure:
                if failure.waiting_helps:
                    raise
                if self.kernel.rules.fault_retries_oom:
                    continue
                end_group(self.kernel, self, -SIGKILL)
                raise OomKilled(f"task {self.pid}: a page fault got no memory ({failure})") from None
