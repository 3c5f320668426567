"""A thread of a program: its registers, how it sleeps, which signals wait for it, and its memory as the kernel reads and writes it. Its life is loop.py."""

import errno
from collections.abc import Callable
from typing import TypeVar

from rmaplab.calls.task import Task
from rmaplab.cpu.abi import Abi
from rmaplab.cpu.engine import Context, Space
from rmaplab.cpu.pending import PendingSignals, SignalInfo
from rmaplab.cpu.process import SIG_IGN, Process
from rmaplab.cpu.userland import NS_A_BLOCK, Userland
from rmaplab.cpu.waiting import ALL, Interrupted, WaitQueue
from rmaplab.errors import OomKilled, Oops, SyscallError
from rmaplab.machine.timer import Timer
from rmaplab.mm.access import copy_from_user, copy_to_user
from rmaplab.mm.process import die
from rmaplab.objects.flags import VM_MAYSHARE
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

R = TypeVar("R")
SS_DISABLE = 2
NO_STACK = 0, 0, SS_DISABLE


class Thread:
    """One thread. `task` is what the simulated kernel knows of it."""

    def __init__(self, userland: Userland, task: Task, process: Process) -> None:
        self.userland, self.task, self.process = userland, task, process
        self.kernel = task.kernel
        self.machine = task.kernel.machine
        self.abi: Abi = process.abi
        self.context: Context | None = None
        self.mask = 0
        """Signals that it blocks: bit n - 1 for signal n."""
        self.saved_mask: int | None = None
        """What the mask is to be again after the next signal (sigsuspend, ppoll)."""
        self.pending = PendingSignals()
        self.alternate_stack = NO_STACK
        """Address, size, flags."""
        self.trap = 0, 0, 0
        """Vector, address and error code of the last fault that was no business of the kernel alone: every signal's frame shows them."""
        self.set_tid = self.clear_tid = self.robust_list = 0
        self.tls_base = 0
        """x86-64: the base of fs."""
        self.tls: set[int] = set()
        """i386: which descriptors of the GDT it has set."""
        self.woken = self.ends_alone = False
        self.wake_bits = ALL
        self._sleeps = 0
        self._queues: list[WaitQueue] = []
        self.unspent_ns = 0
        """Of user time that has not passed yet."""
        self.frames: dict[int, Context] = {}
        """Registers as they were when a signal's frame was made, by its address: with all that a frame of ours does not show."""
        process.threads.append(self)
        process.first_task = process.first_task or task
        userland.threads[task.pid] = self

    @property
    def space(self) -> Space:
        """Its address space, as the CPU sees it."""
        space = self.process.space
        assert space is not None
        return space

    @property
    def registers(self) -> Context:
        """Its context, which it has once it runs."""
        context = self.context
        assert context is not None
        return context

    def begin(self, abi: Abi) -> None:
        """execve: nothing of what it was is left but its mask and what is pending."""
        self.abi = abi
        if self.context is not None:
            self.context.close()
            self.context = None
        self.forget_frames()
        self.alternate_stack, self.clear_tid, self.robust_list = NO_STACK, 0, 0
        self.tls.clear()
        self.tls_base = 0

    def follow(self, parent: "Thread", registers: Context) -> None:
        """It begins as a fork's child, with a copy of the registers of its parent."""
        self.context = registers
        self.mask, self.alternate_stack, self.tls = parent.mask, parent.alternate_stack, set(parent.tls)
        self.trap = parent.trap
        self.tls_base = parent.tls_base
        self.frames = {address: context.copy() for address, context in parent.frames.items()}

    def close(self) -> None:
        """It has ended."""
        self.forget_frames()
        if self.context is not None:
            self.context.close()
            self.context = None

    def forget_frames(self) -> None:
        """No handler of a signal is running any more."""
        for context in self.frames.values():
            context.close()
        self.frames.clear()

    def spend(self) -> None:
        """The time that its user code has taken passes."""
        ns, self.unspent_ns = self.unspent_ns, 0
        if ns:
            self.userland.user_code_ran(ns // NS_A_BLOCK)
            self.machine.sched.spend(ns, user=True)

    # -- sleeping --------------------------------------------------------------------------------------------------------

    def sleep(self, *queues: WaitQueue, until_ns: int | None = None, again: bool = True) -> bool:
        """Until one of the queues is woken: True; or until `until_ns` of simulated time: False. Raises Interrupted."""
        sched = self.machine.sched
        self.woken = False
        self._sleeps += 1
        self._queues = list(queues)
        timer: Timer | None = None
        for queue in queues:  # before anybody else can run: what they wake then is not lost
            queue.sleepers[self] = None
        try:
            self.spend()
            self.machine.end_burst()
            if until_ns is not None and until_ns > sched.now_ns:
                timer = sched.at(until_ns, self._timer(self._sleeps))
            while not self.woken and (until_ns is None or sched.now_ns < until_ns):
                if self.task.fatal:
                    raise OomKilled("SIGKILL")
                if self.wanted:
                    raise Interrupted(again=again)
                self.task.waits = True  # and who ends it, or a child of its, wakes it
                sched.sleep()
                self.userland.time_has_passed()
        finally:
            if timer is not None:
                timer.cancel()
            self.task.waits = False
            for queue in self._queues:
                queue.sleepers.pop(self, None)
            self._queues = []
        return self.woken

    def sleep_uninterrupted(self, *queues: WaitQueue) -> None:
        """Until one of the queues is woken, or somebody ends it."""
        self.woken = False
        for queue in queues:
            queue.sleepers[self] = None
        try:
            self.spend()
            self.machine.end_burst()
            while not self.woken:
                if self.task.fatal:
                    raise OomKilled("SIGKILL")
                self.task.waits = True
                self.machine.sched.sleep()
        finally:
            self.task.waits = False
            for queue in queues:
                queue.sleepers.pop(self, None)

    def _timer(self, sleep: int) -> Callable[[], None]:
        def ends() -> None:
            if self._sleeps == sleep:
                self.rouse()

        return ends

    def stands_in(self, queue: WaitQueue) -> None:
        """It waits in another queue from now on, too: it leaves that when it goes on."""
        self._queues.append(queue)

    def wake(self) -> None:
        """What it waits for is there."""
        self.woken = True
        self.rouse()

    def rouse(self) -> None:
        """It goes on, whether or not that is there."""
        if self.task.waits:
            self.task.waits = False
            self.machine.sched.wake(self.task)

    # -- signals ---------------------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether a signal, or the end of its process, wants it."""
        return (
            self.ends_alone
            or self.process.dying is not None
            or any(
                not self.mask >> (number - 1) & 1 and not self.process.ignores(number)
                for pending in (self.pending, self.process.pending)
                for number in pending
            )
        )

    def send(self, info: SignalInfo) -> None:
        """A signal for this thread."""
        if self.process.ignores(info.number) and not self.mask >> (info.number - 1) & 1:
            return
        self.pending.add(info)
        if self.wanted:
            self.rouse()

    def send_self(self, signal: int) -> None:
        """A signal of its own making, such as SIGPIPE."""
        self.send(SignalInfo(signal, 0, pid=self.process.pid))

    def waits_for_host(self, fd: int) -> None:
        """Who stands beside the machine is not kept waiting by that."""
        beside = self.userland.system.beside_host
        if beside is not None:
            beside(fd)

    def force(self, info: SignalInfo) -> None:
        """A signal that cannot wait: blocked or ignored, it ends the process."""
        action = self.process.action(info.number)
        if self.mask >> (info.number - 1) & 1 or action.handler == SIG_IGN:
            self.process.handlers.pop(info.number, None)
            self.mask &= ~(1 << (info.number - 1))
        self.pending.put_first(info)

    # -- memory ----------------------------------------------------------------------------------------------------------

    def get_some(self, address: int, length: int) -> bytes:
        """copy_from_user: up to the first byte that cannot be read. Raises SyscallError(EFAULT): none can."""
        return self._copy(copy_from_user, address, length) if length else b""

    def get(self, address: int, length: int) -> bytes:
        """All of it. Raises SyscallError(EFAULT)."""
        data = self.get_some(address, length)
        if len(data) < length:
            raise SyscallError(errno.EFAULT, "copy_from_user")
        return data

    def put_some(self, address: int, data: bytes) -> int:
        """copy_to_user: how many bytes, up to the first that cannot be written. Raises SyscallError(EFAULT): none can."""
        return self._copy(copy_to_user, address, data) if data else 0

    def put(self, address: int, data: bytes) -> None:
        """All of it. Raises SyscallError(EFAULT)."""
        if self.put_some(address, data) < len(data):
            raise SyscallError(errno.EFAULT, "copy_to_user")

    def string(self, address: int, longest: int = 4096) -> bytes:
        """Up to its NUL. Raises SyscallError: EFAULT, ENAMETOOLONG."""
        parts, length = list[bytes](), 0
        while length < longest:
            part = self._copy(copy_from_user, address, min(PAGE_SIZE - address % PAGE_SIZE, longest - length))
            end = part.find(0)
            if end >= 0:
                return b"".join([*parts, part[:end]])
            parts.append(part)
            length += len(part)
            address += len(part)
        raise SyscallError(errno.ENAMETOOLONG, "getname")

    def futex_key(self, address: int) -> tuple[int, int]:
        """What a futex is known by: file and offset in a shared mapping, else address space and address."""
        vma = self.space.mm.find_vma(address)
        if vma is not None and vma.start <= address and vma.flags & VM_MAYSHARE and vma.file is not None:
            return vma.file.mapping.address, (vma.pgoff << PAGE_SHIFT) + address - vma.start
        return -self.space.mm.address, address

    def _copy(self, copy: Callable[..., R], *arguments: int | bytes) -> R:
        mm = self.task.mm
        assert mm is not None
        try:
            return copy(self.kernel, mm, self.task.limits, *arguments)
        except Oops:
            die(self.kernel, self.task)
            raise

    def words(self, address: int, nr: int) -> tuple[int, ...]:
        """Words of the program's width. Raises SyscallError(EFAULT)."""
        return self.abi.unpack(self.get(address, nr * self.abi.word))
