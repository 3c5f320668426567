"""What a log comes to: steps, each about pieces of regions that earlier ones have made."""

from __future__ import annotations

from typing import Any

import pytest

from rmaplab.errors import UsageError
from rmaplab.lab.replay import plan as planning
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.places import RegionPiece
from rmaplab.lab.replay.plan import Plan
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.workloads.strace_log import parse

BEGIN = '7  execve("\\x2f\\x61", ["\\x61"], 0x7ffe00000000 /* 3 vars */) = 0'


def planned(*lines: str) -> Plan:
    return plan_of(parse(lines, KNOWN, PASSED))


def calls(plan: Plan, *names: str) -> list[tuple[Any, ...]]:
    """(process, call, about) of steps of these names; of all but spawn and execve, if none is given."""
    return [
        (step.who, step.call, *step.about)
        for step in plan.steps
        if (step.call in names if names else step.call not in ("spawn", "execve"))
    ]


def test_no_call_is_both_planned_and_passed_over() -> None:
    assert not KNOWN.keys() & PASSED


def test_a_call_is_about_what_an_earlier_one_has_made() -> None:
    """Wherever in it."""
    plan = planned(
        BEGIN,
        "7  mmap(NULL, 65536, 0x3, 0x22, -1, 0) = 0x7f0000000000",
        "7  mprotect(0x7f0000004000, 8192, 0x1) = 0",
        "7  munmap(0x7f0000000000, 16384) = 0",
    )
    (made,) = calls(plan, "mmap")
    assert calls(plan, "mprotect", "munmap") == [
        (0, "mprotect", (RegionPiece(made[2], 0x4000, 8192),), 1),
        (0, "munmap", (RegionPiece(made[2], 0, 16384),)),
    ]
    assert not plan.misunderstood


def test_what_is_unmapped_is_known_no_more() -> None:
    plan = planned(
        "7  mmap(NULL, 65536, 0x3, 0x22, -1, 0) = 0x10000",
        "7  munmap(0x10000, 16384) = 0",
        "7  mprotect(0x10000, 8192, 0x1) = 0",
        "7  madvise(0x13000, 8192, 4) = 0",
    )
    assert plan.misunderstood == {
        "mprotect of what is not known to be mapped": 1,
        "madvise of what is not known to be mapped": 1,
    }


def test_the_heap_is_where_the_first_break_was() -> None:
    plan = planned(
        BEGIN,
        "7  brk(NULL) = 0x555500001000",
        "7  brk(0x555500022000) = 0x555500022000",
        "7  madvise(0x555500003000, 4096, 4) = 0",
        "7  brk(0x555500005000) = 0x555500005000",
        "7  brk(0x655500022000) = 0x555500005000",
    )
    assert calls(plan, "brk") == [
        (0, "brk"),
        (0, "brk", 0x21000, 0x21000),
        (0, "brk", 0x4000, -0x1D000),
        (0, "brk", 0x100000021000, 0x10000001D000),
    ]
    assert [step.error for step in plan.steps if step.call == "brk"] == ["", "", "", "ENOMEM"]
    (advice,) = calls(plan, "madvise")
    assert advice[2][0].offset == 0x2000


def test_a_child_knows_what_its_parent_knew_and_a_thread_what_all_know() -> None:
    plan = planned(
        "7  mmap(NULL, 4096, 0x3, 0x22, -1, 0) = 0x10000",
        "7  clone(child_stack=NULL, flags=0x1200000|17, child_tidptr=0x1) = 8",
        "7  munmap(0x10000, 4096) = 0",
        "8  munmap(0x10000, 4096) = 0",
        "8  clone3({flags=0x3d0f00, exit_signal=0, stack=0x0, stack_size=0x0} => {parent_tid=[9]}, 88) = 9",
        "9  mmap(NULL, 4096, 0x3, 0x22, -1, 0) = 0x8000",
        "8  munmap(0x8000, 4096) = 0",
        "7  munmap(0x8000, 4096) = 0",
    )
    assert [call[:2] for call in calls(plan)] == [
        (0, "mmap"),
        (0, "fork"),
        (0, "munmap"),
        (1, "munmap"),
        (1, "thread"),
        (2, "mmap"),
        (1, "munmap"),
    ]
    assert plan.threads == [False, False, True]
    assert plan.misunderstood == {"munmap of what is not known to be mapped": 1}


def test_a_vfork_whose_parent_goes_on_early_is_a_clone() -> None:
    """The lines of both may come in any order at the end of it."""
    waits = planned(BEGIN, "7  vfork() = 8", BEGIN.replace("7", "8", 1), "7  brk(NULL) = 0x1000")
    early = planned(BEGIN, "7  vfork() = 8", "7  brk(NULL) = 0x1000", BEGIN.replace("7", "8", 1))
    assert calls(waits, "vfork", "clone_vm") == [(0, "vfork", 1)]
    assert calls(early, "vfork", "clone_vm") == [(0, "clone_vm", 1)]


def test_descriptors_are_inherited_dupped_and_closed_by_execve() -> None:
    plan = planned(
        BEGIN,
        '7  openat(-100, "\\x62", 0x2) = 3',
        '7  openat(-100, "\\x62", 0x80000) = 4',
        "7  dup2(3, 9) = 9",
        "7  fcntl(3, 2, 0x1) = 0",
        "7  vfork() = 8",
        BEGIN.replace("7", "8", 1),
        "8  close(4) = 0",
        "8  close(9) = 0",
        "7  close(4) = 0",
    )
    execs = calls(plan, "execve")
    assert [each[2] for each in execs] == [(), (3, 4)]
    assert calls(plan, "close") == [(1, "close", 9), (0, "close", 4)]
    files = [call[3] for call in calls(plan, "open")]
    assert files[0] == files[1]


def test_a_file_is_as_long_as_the_log_says() -> None:
    """Fstat before anything; what is read or mapped of it; not what it becomes."""
    plan = planned(
        '7  openat(-100, "\\x61", 0) = 3',
        '7  newfstatat(3, "", {st_mode=0100644, st_size=5000, ...}, 0x1000) = 0',
        "7  mmap(NULL, 8192, 0x1, 0x2, 3, 0) = 0x10000",
        '7  openat(-100, "\\x62", 0x2) = 4',
        "7  pread64(0x4, 0x0, 0x10, 0x1000) = 0x10",
        '7  openat(-100, "\\x63", 0x242) = 5',
        "7  write(0x5, 0x0, 0x100) = 0x100",
        '7  newfstatat(5, "", {st_mode=0100644, st_size=256, ...}, 0x1000) = 0',
    )
    assert [file.size for file in plan.files] == [5000, 0x1010, 0]


def test_what_is_no_file_is_passed_over() -> None:
    plan = planned(
        '7  openat(-100, "\\x2f\\x64\\x65\\x76\\x2f\\x6e\\x75\\x6c\\x6c", 0x2) = 3',  # /dev/null
        '7  openat(-100, "\\x64", 0x10000) = 4',  # a directory
        '7  openat(-100, "\\x70", 0) = 5',
        "7  fstat(5, {st_mode=010600, st_size=0, ...}) = 0",  # a pipe
        "7  read(0x3, 0x0, 0x10) = 0x10",
        "7  read(0x4, 0x0, 0x10) = 0x10",
        "7  read(0x5, 0x0, 0x10) = 0x10",
        "7  mmap(NULL, 4096, 0x1, 0x1, 3, 0) = 0x10000",
    )
    assert calls(plan, "read") == []
    assert plan.passed["read"] == 3
    assert plan.misunderstood == {"mmap of what is no file that was seen to be opened": 1}


def test_a_group_ends_whole_and_its_leader_last() -> None:
    whole = planned(
        BEGIN,
        "7  clone(child_stack=0x1000, flags=0x3d0f00) = 8",
        "8  exit_group(0) = ?",
        "8  +++ exited with 0 +++",
        "7  +++ exited with 0 +++",
    )
    assert calls(whole, "exit", "exit_group") == [(0, "exit_group", (1,))]
    alone = planned(
        BEGIN,
        "7  clone(child_stack=0x1000, flags=0x3d0f00) = 8",
        "7  exit(0) = ?",
        "8  brk(NULL) = 0x1000",
        "8  exit(0) = ?",
    )
    assert calls(alone, "exit", "exit_group") == [(1, "exit"), (0, "exit_group", ())]
    killed = planned(
        BEGIN,
        "7  clone(child_stack=0x1000, flags=0x3d0f00) = 8",
        "8  +++ killed by SIGSEGV +++",
        "7  +++ killed by SIGSEGV +++",
    )
    assert calls(killed, "exit", "exit_group") == [(0, "exit_group", (1,))]


def test_a_pid_may_come_again() -> None:
    plan = planned(
        BEGIN,
        "7  fork() = 8",
        "8  exit_group(0) = ?",
        "7  wait4(8, NULL, 0, NULL) = 8",
        "7  fork() = 8",
        "8  exit_group(0) = ?",
    )
    assert calls(plan, "fork", "wait") == [(0, "fork", 1), (0, "wait", 1), (0, "fork", 2)]


def test_forks_copy_no_more_than_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MOST_COPIED", 10)
    maps = [f"7  mmap(NULL, 4096, 0x3, 0x22, -1, 0) = {hex(0x10000 * i)}" for i in range(1, 5)]
    planned(*maps, "7  fork() = 8")
    with pytest.raises(UsageError, match="record less at once"):
        planned(*maps, *(f"7  fork() = {pid}" for pid in range(8, 12)))


def test_what_has_moved_or_been_given_up_is_where_it_was_no_more() -> None:
    plan = planned(
        BEGIN,
        "7  mmap(NULL, 8192, 0x3, 0x22, -1, 0) = 0x7f0000008000",
        "7  brk(NULL) = 0x555500001000",
        "7  brk(0x555500022000) = 0x555500022000",
        "7  brk(0x555500005000) = 0x555500005000",
        "7  mremap(0x7f0000008000, 8192, 16384, 0x1) = 0x7f0000000000",
        "7  madvise(0x555500004000, 4096, 4) = 0",
        "7  madvise(0x7f0000003000, 4096, 4) = 0",
        "7  madvise(0x555500006000, 4096, 4) = 0",
        "7  madvise(0x7f0000008000, 4096, 4) = 0",
    )
    assert len(calls(plan, "madvise")) == 2
    assert plan.misunderstood == {"madvise of what is not known to be mapped": 2}
