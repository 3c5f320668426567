"""Threads of one process share memory, handlers and limits, and end alone, with their process or by its exec. The host says so too (tests/data/check/threads.script)."""

import pytest

import rmaplab
from rmaplab.errors import NotModelled, SyscallError, UsageError
from rmaplab.units import PAGE_SIZE


def test_threads_end_with_their_process() -> None:
    """By exit, by a signal to any of them, by execve; what they held is free, and children are their process's."""
    system = rmaplab.boot("6.18", ram="64M")
    first = system.spawn()
    at = first.mmap(PAGE_SIZE)
    for end in ("exit", "kill", "execve"):
        process = first.fork()
        thread = process.thread()
        other = thread.thread()
        thread.write(at, end.encode())
        assert process.read(at, len(end)) == end.encode()
        system.check()
        grandchild = other.fork()
        grandchild.exit(4)
        assert process.wait() == (grandchild.pid, 4)
        getattr(other if end == "kill" else process, end)()
        for gone in (thread, other):
            with pytest.raises(UsageError, match="has exited"):
                gone.read(at)
        system.check()
        if end == "execve":
            process.exit()
        assert first.wait()[1] == (-9 if end == "kill" else 0)
        system.check()
    assert first.kernel.nr_alive == 1


def test_a_thread_ends_alone_and_limits_are_its_process_s() -> None:
    """exit(2) of a thread leaves the others."""
    system = rmaplab.boot("2.6.2", ram="64M")
    process = system.spawn()
    thread = process.thread()
    thread.limit_as(2 * PAGE_SIZE)
    process.mmap(2 * PAGE_SIZE)
    with pytest.raises(SyscallError, match="mmap"):
        process.mmap(PAGE_SIZE)
    thread.exit()
    system.check()
    process.exit()
    assert system.kernel.nr_alive == 0


def test_children_of_a_thread_that_has_ended_come_behind_its_process_s_own() -> None:
    """Until then wait() asks for who the caller has forked itself, then for the others; each time the eldest first."""
    process = rmaplab.boot("6.18", ram="64M").spawn()
    thread = process.thread()
    forked = [who.fork() for who in (thread, process, thread, process, thread)]
    for child in forked:
        child.exit(child.pid)
    assert thread.wait()[0] == forked[0].pid
    assert process.wait()[0] == forked[1].pid
    late = thread.fork()
    process.fork()
    thread.exit()
    late.exit()
    order = [process.wait()[0] for _ in range(4)]
    assert order == [forked[3].pid, forked[2].pid, forked[4].pid, late.pid]


def test_2_4_has_no_thread_groups() -> None:
    """No exit_group there: it is said."""
    with pytest.raises(NotModelled, match="end one by one"):
        rmaplab.boot("2.4.21", ram="64M").spawn().thread()
