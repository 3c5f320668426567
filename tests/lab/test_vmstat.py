"""vmstat(8) of a run: what it shows is what the kernel counts, and nothing is different because somebody looks."""

from __future__ import annotations

from functools import partial

import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.kernels.box import announced
from rmaplab.kernels.system import System
from rmaplab.lab.announcement.experiment import run_forkbench
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.lab.vmstat import Sampler, VmstatLine
from rmaplab.units import PAGE_SIZE

SECOND = 10**9
PAGES = 200


def sampled(system: System, every_ns: int) -> list[VmstatLine]:
    """The lines that come while its programs run."""
    lines: list[VmstatLine] = []
    Sampler(system, lines.append, every_ns)
    system.run()
    return lines


@pytest.mark.parametrize(
    ("kernel", "ht"), [("2.4.21", "off"), ("2.6.2", "off"), ("2.6.2", "on"), ("2.6.5-rc1-aa1", "off"), ("2.6.7", "on")]
)
def test_a_run_is_the_same_whoever_looks(kernel: str, ht: str) -> None:
    """Every count, lock and second; some 200 looks, at no time that means anything."""
    box, lines = announced(ht=ht), list[VmstatLine]()
    alone, looked_at = (
        run_forkbench(kernel, 3, box, watch).as_json() | {"wall_s": 0}
        for watch in (None, lambda system: Sampler(system, lines.append, 9_999_991))
    )
    assert alone == looked_at
    assert len(lines) == 1 + int(alone["time_s"]["real"] * SECOND) // 9_999_991


def test_forkbench_of_level_1_by_hand() -> None:
    """Of 2.6.2, 4 CPUs: one writes 512 MiB in 1.2 s, a quarter of all time; then two read it. Free memory falls by the pages, their tables, and the chains of those that are shared."""
    lines = list[VmstatLine]()
    result = run_forkbench("2.6.2", 1, announced(), lambda system: Sampler(system, lines.append, SECOND // 10))
    first, at_most = lines[0], min(line.free for line in lines)
    assert result.time_s is not None
    assert result.memory_peak_bytes is not None
    tables, chains = result.memory_peak_bytes["page_tables"] >> 10, result.memory_peak_bytes["rmap"] >> 10
    assert (first.r, first.us, first.sy, first.id, first.cs) == (1, 0, 0, 100, 0)
    assert 0 <= first.free - at_most - (512 << 10) - tables - chains < 256  # stacks, slabs, pages on CPU lists
    assert max(line.r for line in lines) == 2
    assert {line.interrupts for line in lines[1:]} == {1000}
    assert all((line.b, line.swpd, line.si, line.so, line.bi, line.bo, line.wa) == (0,) * 7 for line in lines)
    assert all(99 <= line.us + line.sy + line.id <= 101 for line in lines)
    busy = sum(line.us + line.sy for line in lines[1:]) * 4 / 1000  # of tenths of a second
    assert busy == pytest.approx(result.time_s["user"] + result.time_s["sys"], abs=0.15)


def reader(task: Task, fd: int, nr: int, chunk: int) -> int:
    """Reads a file from one end to the other."""
    for page in range(0, nr, chunk):
        task.pread(fd, chunk * PAGE_SIZE, page * PAGE_SIZE)
    return 0


def reading(kernel: str, cpus: int = 1) -> System:
    """One task that reads a file of 200 pages from the disk."""
    system = rmaplab.boot(kernel, ram="64M", boot_use="4M", cpus=cpus)
    file = system.new_file(b"x" * PAGES * PAGE_SIZE)

    def program(task: Task) -> int:
        return reader(task, task.open(file), PAGES, 8)

    system.spawn(program)
    return system


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.7"])
def test_who_reads_waits_for_the_disk(kernel: str) -> None:
    """All that is read is in `bi`, and stays cached; meanwhile the task is blocked, and the CPU waits for it (2.4 calls that idle)."""
    system = reading(kernel)
    every = SECOND // 1000
    lines = sampled(system, every)
    last = Sampler(system, lines.append).sample()
    assert last.cache == PAGES * 4
    assert {(line.r, line.b) for line in lines[2:-3]} == {(0, 1)}
    in_kib = sum(line.bi for line in lines[1:-1]) * every / SECOND
    assert in_kib <= system.vmstat()["pgpgin"] == PAGES * 4
    waited, idle = zip(*((line.wa, line.id) for line in lines[2:-3]), strict=True)
    assert (min(idle) >= 90 and not any(waited)) if kernel == "2.4.21" else (min(waited) >= 90 and not any(idle))


def test_idle_cpus_do_not_wait() -> None:
    """One task reads on one of four CPUs: a quarter of the time is iowait."""
    lines = sampled(reading("2.6.7", cpus=4), SECOND // 1000)
    assert {(line.wa, line.id) for line in lines[2:]} <= {(24, 75), (25, 75), (24, 76), (23, 75)}


def test_the_first_line_divides_by_all_cpus() -> None:
    """So many KiB were read in a second on each of four CPUs: a quarter of that by procps' arithmetic; the next line is right."""
    system = reading("2.6.7", cpus=4)
    system.run()
    lines = list[VmstatLine]()
    sampler = Sampler(system, lines.append)
    seconds = system.machine.sched.now_ns / SECOND
    assert sampler.sample().bi == pytest.approx(PAGES * 4 / seconds / 4, abs=1)
    task = system.spawn()
    task.pread(task.open(system.new_file(b"y" * PAGE_SIZE * 50)), 50 * PAGE_SIZE, 0)
    took = system.machine.sched.now_ns / SECOND - seconds
    assert sampler.sample().bi == pytest.approx(200 / took, abs=1)


def test_pages_that_go_to_swap() -> None:
    """Twice the RAM is written, from outside: `so` and `bo` are the same KiB, and `swpd` is what is there."""
    system = rmaplab.boot("2.6.7", ram="1M", swap="4M", boot_use=0, pages_min=4, overcommit=1)
    install(system)
    lines = list[VmstatLine]()
    sampler = Sampler(system, lines.append)
    sampler.sample()
    task = system.spawn()
    at = task.mmap(2 << 20)
    task.touch(at, 2 << 20, write=True)
    line, found = sampler.sample(), system.meminfo()
    assert line.so == line.bo > 0
    assert line.swpd == found["SwapTotal"] - found["SwapFree"] > 1024
    assert line.free == found["MemFree"]


def test_nothing_is_sampled_after_the_end() -> None:
    """Two programs that wait for nothing end at once; the clock stands where they stopped."""
    system = rmaplab.boot("2.6.7", ram="64M", boot_use="4M")
    system.spawn(partial(reader, fd=0, nr=0, chunk=1))
    assert len(sampled(system, SECOND)) == 1
    assert system.machine.sched.now_ns < SECOND
