"""What a simulated kernel's own calls come to when they are recorded and replayed on that kernel: the same."""

from __future__ import annotations

import random

import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import SyscallError
from rmaplab.kernels.system import System, boot
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.lab.replay.player import LogPlayer
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_MAYMOVE,
    VM_LOCKED,
)
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.strace_log import parse

BEGIN = '1  execve("\\x2f\\x61", ["\\x61"], 0x7ffe00000000 /* 3 vars */) = 0'
ROOM = 1 << 30  # below where mmap begins to look: there the stack and the program are not


class Recorder:
    """Makes random calls on a system, and writes them down as strace would."""

    def __init__(self, kernel: str, seed: int) -> None:
        self.system = boot(kernel, ram="64M", paging="x86-64")
        self.dice = random.Random(seed)
        self.tasks: dict[int, Task] = {1: self.system.spawn()}
        self.lines = [BEGIN]
        self.next_pid = 2

    def go_on(self) -> None:
        """One call more, of somebody."""
        pid = self.dice.choice(list(self.tasks))
        task = self.tasks[pid]
        mm = task.mm
        assert mm is not None
        vmas = mm.vmas
        address = length = 0
        if vmas:
            vma = self.dice.choice(vmas)
            first = self.dice.randrange(vma.nr_pages)
            address, length = (
                vma.start + first * PAGE_SIZE,
                self.dice.randrange(1, vma.nr_pages - first + 2) * PAGE_SIZE,
            )
            end = vma.end
            while (after := mm.find_vma(end)) is not None and after.start == end:
                end = after.end
            length = min(length, end - address)
        call = self.dice.choice(
            (
                "mmap",
                "mmap",
                "mmap",
                "fixed",
                "munmap",
                "mprotect",
                "mprotect",
                "mremap",
                "madvise",
                "fork",
                "exit",
                "mlock",
            )
        )
        if call not in ("mmap", "fork", "exit") and not vmas:
            return
        if call == "fork":
            self._fork(pid, task)
        elif call == "exit":
            if len(self.tasks) > 2 and pid != 1:
                task.exit()
                self.lines += [f"{pid}  exit_group(0) = ?", f"{pid}  +++ exited with 0 +++"]
                del self.tasks[pid]
        else:
            self._memory(pid, task, call, address, length)

    def _fork(self, pid: int, task: Task) -> None:
        if len(self.tasks) < 6:
            self.tasks[self.next_pid] = task.fork()
            self.lines.append(f"{pid}  clone(child_stack=NULL, flags=0x1200000|17) = {self.next_pid}")
            self.next_pid += 1

    def _memory(self, pid: int, task: Task, call: str, address: int, length: int) -> None:
        prot, kind = self.dice.choice((0, 1, 3, 3, 3)), self.dice.choice((MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED))
        size = self.dice.randrange(1, 9) * PAGE_SIZE
        if call == "mmap":
            said, flags = f"mmap(NULL, {size}, {prot:#x}, {kind | MAP_ANONYMOUS:#x}, -1, 0)", kind | MAP_ANONYMOUS
            self._say(pid, said, lambda: task.mmap(size, prot, flags))
        elif call == "fixed":
            flags = kind | MAP_ANONYMOUS | MAP_FIXED
            said = f"mmap({address:#x}, {length}, {prot:#x}, {flags:#x}, -1, 0)"
            self._say(pid, said, lambda: task.mmap(length, prot, flags, address))
        elif call == "mremap":
            said = f"mremap({address:#x}, {length}, {size}, {MREMAP_MAYMOVE:#x})"
            self._say(pid, said, lambda: task.mremap(address, length, size, MREMAP_MAYMOVE))
        elif call == "mprotect":
            self._say(pid, f"mprotect({address:#x}, {length}, {prot:#x})", lambda: task.mprotect(address, length, prot))
        elif call == "madvise":
            self._say(pid, f"madvise({address:#x}, {length}, 4)", lambda: task.madvise(address, length, 4))
        elif call == "mlock":
            self._say(pid, f"mlock({address:#x}, {length})", lambda: task.mlock(address, length))
        else:
            length += self.dice.choice((0, 0, 8)) * PAGE_SIZE  # over a hole, perhaps
            self._say(pid, f"munmap({address:#x}, {length})", lambda: task.munmap(address, length))

    def _say(self, pid: int, said: str, call: object) -> None:
        assert callable(call)
        try:
            result = call() or 0
        except SyscallError as error:
            self.lines.append(f"{pid}  {said} = -1 {error.name} (because)")
        else:
            self.lines.append(f"{pid}  {said} = {result:#x}")


def mapped(system: System, task: Task) -> list[str]:
    """Its VMAs, as /proc/PID/maps has them, where mmap puts things."""
    base = system.machine.paging.unmapped_base
    assert task.mm is not None
    topdown = system.kernel.rules.mmap_topdown
    low, high = (base - ROOM, base) if topdown else (base, base + ROOM)
    return [f"{vma!r} {vma.flags & 0xFFFF:x}" for vma in task.mm.vmas if low <= vma.start < high]


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.7", "6.18"])
@pytest.mark.parametrize("seed", range(4))
def test_a_kernels_own_calls_come_to_the_same_again(kernel: str, seed: int) -> None:
    """Every mapping, of every process, and the merges; no call differs, none is lost."""
    recorder = Recorder(kernel, seed)
    for _ in range(70):
        recorder.go_on()
    plan = plan_of(parse(recorder.lines, KNOWN, PASSED))
    assert not plan.misunderstood
    system = boot(kernel, ram="64M", paging="x86-64")
    player = LogPlayer(system, plan, "none")
    player.play(lambda: None)
    assert (player.differs, player.lost, player.not_modelled) == ({}, {}, {})
    alive = [task for task in player.tasks if task is not None and task.mm is not None]
    assert len(alive) == len(recorder.tasks)
    for ours, theirs in zip(alive, recorder.tasks.values(), strict=True):
        assert mapped(system, ours) == mapped(recorder.system, theirs)
    system.check()


def play(kernel: str, *lines: str, touch: str = "none") -> tuple[System, LogPlayer]:
    plan = plan_of(parse((BEGIN, *lines), KNOWN, PASSED))
    system = boot(kernel, ram="64M", paging="x86-64")
    player = LogPlayer(system, plan, touch)
    player.play(lambda: None)
    system.check()
    return system, player


def test_one_call_about_two_mappings_is_one_where_they_lie_side_by_side() -> None:
    """Side by side on the host, in either order here: upwards in 2004, downwards today."""
    lines = (
        "1  mmap(NULL, 8192, 0x3, 0x22, -1, 0) = 0x7f0000002000",
        "1  mmap(NULL, 8192, 0x1, 0x21, -1, 0) = 0x7f0000000000",
        "1  munmap(0x7f0000001000, 8192) = 0",
    )
    for kernel in ("2.6.7", "6.18"):
        system, player = play(kernel, *lines)
        (task,) = filter(None, player.tasks)
        assert [line.split()[1] for line in mapped(system, task)] == (
            ["r--s", "rw-p"] if kernel == "6.18" else ["rw-p", "r--s"]
        )
        assert sum(vma.nr_pages == 1 for vma in task.mm.vmas if repr(vma) in " ".join(mapped(system, task))) == 2  # type: ignore[union-attr]


def test_what_a_kernel_does_not_know_is_counted_and_what_hangs_on_it_is_lost() -> None:
    lines = (
        '1  memfd_create("\\x61", 0) = 3',
        "1  ftruncate(3, 8192) = 0",
        "1  mmap(NULL, 8192, 0x3, 0x1, 3, 0) = 0x7f0000000000",
        "1  mprotect(0x7f0000000000, 4096, 0x1) = 0",
    )
    _, old = play("2.6.7", *lines)
    assert old.differs == {
        ("memfd_create", "ok", "ENOSYS"): 1,
        ("ftruncate", "ok", "EBADF"): 1,
        ("mmap", "ok", "EBADF"): 1,
    }
    assert old.lost == {"mprotect": 1}
    _, new = play("6.18", *lines)
    assert (new.differs, new.lost) == ({}, {})


def test_what_failed_on_the_host_and_does_not_here_is_counted_and_undone() -> None:
    system, player = play("6.18", "1  mmap(NULL, 8192, 0x3, 0x22, -1, 0) = -1 ENOMEM (Cannot allocate memory)")
    assert player.differs == {("mmap", "ENOMEM", "ok"): 1}
    (task,) = filter(None, player.tasks)
    assert mapped(system, task) == []


def test_a_mapping_that_must_lie_within_another_does() -> None:
    """As a loader maps a library: wherever the kernel has put the whole."""
    lines = (
        '1  openat(-100, "\\x6c", 0x80000) = 3',
        '1  newfstatat(3, "", {st_mode=0100755, st_size=40960, ...}, 0x1000) = 0',
        "1  mmap(NULL, 49152, 0x1, 0x802, 3, 0) = 0x7f0000000000",
        "1  mmap(0x7f0000002000, 16384, 0x5, 0x812, 3, 0x2000) = 0x7f0000002000",
        "1  mmap(0x7f0000008000, 8192, 0x3, 0x812, 3, 0x8000) = 0x7f0000008000",
        "1  mmap(0x7f000000a000, 8192, 0x3, 0x32, -1, 0) = 0x7f000000a000",
        "1  mprotect(0x7f0000008000, 4096, 0x1) = 0",
    )
    for kernel in ("2.4.21", "2.6.7", "6.18"):
        system, player = play(kernel, *lines, touch="used")
        (task,) = filter(None, player.tasks)
        found = [(line.split()[1], line.split()[2]) for line in mapped(system, task)]
        assert found == [
            ("r--p", "00000000"), ("r-xp", "00002000"), ("r--p", "00006000"), ("r--p", "00008000"), ("rw-p", "00009000"), found[-1],
        ]  # fmt: skip


def test_more_is_touched_the_more_is_assumed() -> None:
    lines = (
        "1  mmap(NULL, 40960, 0x3, 0x22, -1, 0) = 0x7f0000000000",
        "1  read(0x0, 0x7f0000004ff8, 0x20) = 0x10",
        "1  fork() = 2",
        "2  mmap(NULL, 40960, 0x1, 0x22, -1, 0) = 0x7e0000000000",
    )
    faults = []
    for touch in ("none", "used", "all"):
        system, player = play("6.18", *lines, touch=touch)
        (first, _) = filter(None, player.tasks)
        low = int(mapped(system, first)[0].split("-")[0], 16)
        faults.append([bool(system.who_maps(first, low + page * PAGE_SIZE)) for page in range(10)])
    assert faults == [[False] * 10, [page in (0, 4, 5) for page in range(10)], [True] * 10]


def test_flags_of_a_place_that_is_torn_here_are_dropped() -> None:
    """Two mappings that lie side by side on the host and not here: what replaces both lies elsewhere, and they are gone."""
    lines = (
        "1  mmap(NULL, 4096, 0x3, 0x22, -1, 0) = 0x7f0000001000",
        "1  mmap(NULL, 4096, 0x3, 0x21, -1, 0) = 0x7f0000009000",
        "1  mmap(NULL, 4096, 0x3, 0x22, -1, 0) = 0x7f0000000000",
        "1  munmap(0x7f0000009000, 4096) = 0",
        "1  mmap(NULL, 4096, 0x1, 0x21, -1, 0) = 0x7f0000003000",
        "1  mmap(0x7f0000000000, 8192, 0x0, 0x32, -1, 0) = 0x7f0000000000",
    )
    for kernel in ("2.6.7", "6.18"):
        system, player = play(kernel, *lines)
        assert not player.differs
        (task,) = filter(None, player.tasks)
        assert sorted(line.split()[1] for line in mapped(system, task)) == ["---p", "r--s"]


def test_zombies_are_buried_by_whom_they_were_buried_by() -> None:
    """A child that nobody has waited for stays until its parent goes."""
    born = ("1  fork() = 2", "2  exit_group(0) = ?", "1  fork() = 3", "3  exit_group(0) = ?")
    for waits, left in ((), 3), (("1  wait4(-1, NULL, 0, NULL) = 3",), 2), (("1  wait4(-1, NULL, 0, NULL) = 3", "1  wait4(-1, NULL, 0, NULL) = 2"), 1):  # fmt: skip
        for kernel in ("2.4.21", "6.18"):
            system, _ = play(kernel, *born, *waits)
            assert len(system.kernel.tasks) == left
            system, _ = play(kernel, *born, *waits, "1  exit_group(0) = ?")
            assert not system.kernel.tasks


def test_threads_end_with_their_process_or_alone() -> None:
    """Also where a kernel knows no thread groups: there they are tasks that share its memory."""
    lines = (
        "1  mmap(NULL, 8192, 0x3, 0x22, -1, 0) = 0x7f0000000000",
        "1  clone(child_stack=0x7f0000002000, flags=0x3d0f00) = 2",
        "1  clone(child_stack=0x7f0000002000, flags=0x3d0f00) = 3",
        "3  exit(0) = ?",
    )
    for kernel in ("2.4.21", "2.6.7", "6.18"):
        system, _ = play(kernel, *lines)
        assert len({id(task.mm) for task in system.kernel.tasks.values()}) == 1
        assert len(system.kernel.tasks) == 2
        assert not play(kernel, *lines, "2  exit_group(0) = ?")[0].kernel.tasks
        system, _ = play(kernel, *lines, BEGIN)
        assert len(system.kernel.tasks) == 1


def test_a_program_may_lie_in_memory() -> None:
    """A file on tmpfs is charged for by its size, which execve does not change."""
    shm = "".join(f"\\x{byte:02x}" for byte in b"/dev/shm/a")
    lines = (
        f'1  openat(-100, "{shm}", 0x242) = 3',
        "1  write(0x3, 0x0, 0x100) = 0x100",
        "1  close(3) = 0",
        BEGIN.replace("\\x2f\\x61", shm, 1),
    )
    for kernel in ("2.6.2", "6.18"):
        _, player = play(kernel, *lines)
        assert player.calls["execve"] == 2
        assert not player.differs


def test_what_is_about_a_range_is_made_by_the_method_of_its_name() -> None:
    """Also about two mappings at once, which lie side by side here."""
    lines = (
        "1  mmap(NULL, 65536, 0x3, 0x22, -1, 0) = 0x7f0000010000",
        "1  mmap(NULL, 65536, 0x3, 0x21, -1, 0) = 0x7f0000000000",
        "1  mlock(0x7f0000008000, 65536) = 0",
        "1  mbind(0x7f0000010000, 8192, 2, [0x1], 2, 0) = 0",
        '1  prctl(0x53564d41, 0, 0x7f0000010000, 4096, "\\x61") = 0',
        "1  remap_file_pages(0x7f0000000000, 4096, 0, 3, 0) = 0",
        "1  munmap(0x7f000000c000, 32768) = 0",
    )
    _, player = play("6.18", *lines)
    assert (player.differs, player.lost, player.not_modelled) == ({}, {}, {})
    assert {"mlock", "mbind", "set_vma_name", "remap_file_pages", "munmap"} <= player.calls.keys()
    (task,) = filter(None, player.tasks)
    assert task.mm is not None
    assert (task.mm.locked_vm, sum(vma.nr_pages for vma in task.mm.vmas if vma.flags & VM_LOCKED)) == (8, 8)
