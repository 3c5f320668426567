"""The announcement's benchmark does what its C program does: counts follow from the level alone.

level L: 2^L processes, (2^L - 1) * 131,072 entries copied, 131,072 pages faulted in (history.md 3.1)
"""

from __future__ import annotations

from collections import Counter

import pytest

import rmaplab
from rmaplab.workloads.forkbench import NR_PAGES, Forkbench

KERNELS = ["2.6.2", "2.6.5-rc1-aa1"]


def run(
    kernel: str, levels: int, *, ram: str = "1G", swap: str = "512M", line: int = 128
) -> tuple[rmaplab.System, Forkbench]:
    system = rmaplab.boot(kernel, ram=ram, swap=swap, l1_cache_bytes=line)
    benchmark = Forkbench(levels)
    benchmark.run(system)
    return system, benchmark


def chain_blocks(nr_mappings: int, nrpte: int) -> int:
    """Blocks of one page's chain: none for a direct pointer, else every slot of every block but the head's is used."""
    return 0 if nr_mappings < 2 else -(-nr_mappings // nrpte)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_counts(kernel: str, levels: int) -> None:
    """What the program asks for, operation by operation."""
    system, benchmark = run(kernel, levels)
    nr_processes = 1 << levels
    counts = system.machine.ledger.counts
    assert benchmark.failed is None
    assert NR_PAGES == 131_072
    assert counts["pte_copy"] == (nr_processes - 1) * NR_PAGES
    assert counts["anon_fault"] == NR_PAGES
    assert counts["zero_fault"] == counts["cow_copy"] == counts["cow_reuse"] == 0
    assert system.kernel.nr_processes == nr_processes
    assert (counts["fork"], counts["exit"]) == (nr_processes - 1, nr_processes)
    #   the first touches all once, and then, like each child, once per level it lives through
    assert counts["page_touch"] == NR_PAGES * (1 + sum(2**level for level in range(1, levels + 1)))
    #   all entries go again, each page once
    assert counts["pte_zap"] == nr_processes * NR_PAGES
    assert counts["page_free"] == NR_PAGES


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("levels", [1, 3])
def test_nothing_is_left(kernel: str, levels: int) -> None:
    """Everybody has exited and been waited for."""
    system, _ = run(kernel, levels)
    assert not system.kernel.tasks
    assert not system.kernel.mms
    assert system.machine.nr_tables == 0
    assert system.kernel.committed_pages == 0
    assert system.kernel.nr_alive == 0
    assert system.kernel.design.tracked().size == 0
    assert all(cache.nr_objects == 0 for cache in system.machine.caches.values())
    system.check()
    for cache in system.machine.caches.values():
        cache.shrink()
    assert system.machine.allocator.nr_unused == rmaplab.boot(kernel).machine.allocator.nr_unused


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_one_anon_vma(levels: int) -> None:
    """However many processes: "one 12-byte object" (history.md 3.1)."""
    system, _ = run("2.6.5-rc1-aa1", levels)
    assert system.machine.caches["anon_vma"].nr_objects_peak == 1
    assert system.machine.ledger.counts["anon_vma_alloc"] == 1
    assert system.machine.ledger.counts["anon_vma_link"] == (1 << levels) - 1
    assert system.machine.caches["vm_area_struct"].nr_objects_peak == system.kernel.nr_alive_peak


@pytest.mark.parametrize(("line", "nrpte"), [(128, 15), (64, 7), (32, 3)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_chain_blocks(levels: int, line: int, nrpte: int) -> None:
    """With all 2^L processes alive at once each page's chain has so many blocks; PAE with HIGHPTE, 8-byte slots."""
    system, _ = run("2.6.2", levels, line=line)
    assert system.kernel.nr_alive_peak == 1 << levels
    assert system.machine.caches["pte_chain"].nr_objects_peak == chain_blocks(1 << levels, nrpte) * NR_PAGES
    assert system.machine.ledger.counts["chain_add"] == (1 << levels) * NR_PAGES


@pytest.mark.parametrize("kernel", KERNELS)
def test_page_tables(kernel: str) -> None:
    """512 MiB take 256 leaf tables with PAE (history.md 2.4), and every process has its own, and three above."""
    system, _ = run(kernel, 2)
    assert system.kernel.nr_alive_peak == 4
    assert system.machine.nr_tables_peak == 4 * (256 + 3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_runs_are_one_run(kernel: str) -> None:
    """The same box, the same counts, the same seconds: nothing depends on the host."""

    def result() -> tuple[Counter[str], int, int, int, int]:
        system, _ = run(kernel, 3)
        sched = system.machine.sched
        return system.machine.ledger.counts, sched.now_ns, sched.user_ns, sched.system_ns, system.kernel.nr_alive_peak

    assert result() == result()


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_swap_the_first_fork_fails(kernel: str) -> None:
    """1 GB, 512 MiB of it written: less is free than the child could write. S = 0 of eras.md 0.3."""
    system, benchmark = run(kernel, 6, swap="0")
    assert benchmark.failed is not None
    assert (benchmark.failed.call, benchmark.failed.name) == ("fork", "ENOMEM")
    assert system.kernel.nr_processes == 1
    #   perror, exit(1): it does not try again, and reads nothing more
    assert system.machine.ledger.counts["mm_alloc"] == 2
    assert system.machine.ledger.counts["page_touch"] == NR_PAGES
    assert not system.kernel.tasks
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_fork_that_fails_ends_its_process_and_no_other(kernel: str) -> None:
    """As perror("fork"), exit(1) does: the others go on to the end, and everything is given back."""
    system, benchmark = run(kernel, 5, ram="700M", swap="100M")
    assert benchmark.failed is not None
    assert benchmark.failed.name == "ENOMEM"
    assert 1 <= system.kernel.nr_processes < 32
    assert not system.kernel.tasks
    assert system.machine.nr_tables == 0
    assert system.kernel.committed_pages + system.kernel.committed_drift == 0
    system.check()


def test_a_box_too_small_for_the_mapping() -> None:
    """The mmap itself fails: the program prints its error and exits."""
    system, benchmark = run("2.6.2", 1, ram="540M", swap="0")
    assert benchmark.failed is not None
    assert (benchmark.failed.call, benchmark.failed.name) == ("mmap", "ENOMEM")
    assert system.machine.ledger.counts["anon_fault"] == 0
    system.check()


@pytest.mark.parametrize("levels", [0, -1, 15, 40])
def test_levels_that_make_no_sense(levels: int) -> None:
    """One line that says which do."""
    with pytest.raises(rmaplab.UsageError, match="levels 1 to 14") as error:
        Forkbench(levels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("ram", "enough"), [(256 << 20, False), (512 << 20, False), (1 << 30, True)])
def test_ram(ram: int, enough: bool) -> None:
    """512 MiB are written: a box that has no more is refused, with one that would do."""
    if enough:
        Forkbench.check_ram(ram)
        return
    with pytest.raises(rmaplab.UsageError, match="--ram 1G"):
        Forkbench.check_ram(ram)
