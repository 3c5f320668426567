"""The boundary: what is read off one run is what boxes on both sides of it really do.

swap   ... need - 1 page: ENOMEM in fork | need: ok ...
"""

from __future__ import annotations

from dataclasses import replace

import pytest

import rmaplab
from rmaplab.kernels.box import Box, announced
from rmaplab.lab.announcement.boundary import (
    ENOMEM,
    SCHEDULERS,
    BoundaryRow,
    Demand,
    Panel,
    boundary,
    demand_of,
    with_scheduler,
)
from rmaplab.lab.announcement.experiment import run_forkbench
from rmaplab.mm.overcommit import OvercommitMode, Request
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads import forkbench

BOX = announced(ram="700M")
MODES = (OvercommitMode.HEURISTIC, OvercommitMode.STRICT)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1"])
def test_the_border_is_exact_to_the_page(kernel: str, mode: OvercommitMode) -> None:
    """With as much swap as is needed forkbench runs through; with a page less a fork gets ENOMEM."""
    need = demand_of(kernel, 4, BOX).swap_needed(mode)
    assert need is not None
    for pages, outcome in ((need, "ok"), (need - 1, ENOMEM)):
        box = replace(BOX, swap=str(pages * PAGE_SIZE), overcommit=int(mode))
        result = run_forkbench(kernel, 4, box)
        assert (result.outcome, result.failed_call) == (outcome, "fork" if outcome == ENOMEM else None)


def test_strict_promises_cost_half_a_gigabyte_a_process() -> None:
    """Mode 2: 2^L processes promise 512 MiB each; half of RAM and the swap must exceed that."""
    demand = demand_of("2.6.5-rc1-aa1", 3, BOX)
    need = demand.swap_needed(OvercommitMode.STRICT)
    system = rmaplab.boot("2.6.5-rc1-aa1", ram=BOX.ram)
    assert need == 8 * (512 << 8) - system.machine.allocator.totalram_pages // 2 + 1
    assert demand.swap_needed(OvercommitMode.ALWAYS) == 0


def test_2_4_never_asks_at_fork() -> None:
    """Only mmap asks (history.md 2.7): what it needs does not grow with the level."""
    needs = {demand_of("2.4.21", level, BOX).swap_needed(OvercommitMode.HEURISTIC) for level in (1, 4)}
    assert len(needs) == 1


def demand(need_mib: int, *, seen_mib: int | None = None) -> Demand:
    """A run that needs so much swap; with `seen_mib` it needed reclaim when it had asked for no more than that."""
    rule = rmaplab.boot("2.6.2", ram="64M").kernel.overcommit
    bare = replace(rule, rules=replace(rule.rules, root_reserve_divisor=0))
    whole, part = ((Request(mib * 256 - 1, 0, 0),) for mib in (need_mib, seen_mib or need_mib))
    return Demand(bare, part, "ok") if seen_mib is None else Demand(bare, part, "RAM is full", whole)


def row(passes: Demand, fails: Demand, reaches: Demand) -> BoundaryRow:
    return BoundaryRow(Panel(True, 128, "own", OvercommitMode.HEURISTIC), 0, passes, fails, reaches)


def letters(here: BoundaryRow, *swaps_mib: int) -> str:
    return "".join(here.cell(mib * 256) for mib in swaps_mib)


def test_letters_and_window() -> None:
    """Which level goes otherwise than published, by swap; the window is where none does."""
    here = row(demand(100), demand(300), demand(200))
    assert letters(here, 99, 100, 199, 200, 299, 300) == "799##8"
    assert here.window() == (200 * 256, 300 * 256)
    assert row(demand(100), demand(300), demand(400)).window() is None


def test_what_is_not_certain_has_another_letter() -> None:
    """A refusal that was seen is certain; what comes after reclaim was needed is not."""
    swapping = row(demand(100), demand(300, seen_mib=250), demand(200, seen_mib=150))
    assert letters(swapping, 99, 149, 199, 249, 299, 300) == "79n++e"
    assert swapping.window() == (200 * 256, 300 * 256)
    early = row(demand(100, seen_mib=50), demand(300), demand(200))
    assert letters(early, 49, 99, 199, 200, 300) == "7sn+e"


def test_a_run_goes_on_with_more_ram_where_it_needed_reclaim() -> None:
    """A box too small by itself: until memory was out both runs met the same, and then the pages free go below nothing."""
    small = demand_of("2.6.5-rc1-aa1", 6, announced(ram="600M"))
    assert small.outcome == "RAM is full"
    seen, whole = small.requests, small.beyond
    assert len(whole) > len(seen)
    assert [r.nr_free for r in whole[: len(seen)]] == pytest.approx(
        [r.nr_free for r in seen], abs=200
    )  # CPU lists differ
    assert min(r.nr_free for r in whole) < 0
    roomy = demand_of("2.6.5-rc1-aa1", 6, announced(ram="700M")).swap_needed(OvercommitMode.HEURISTIC)
    need = small.swap_needed(OvercommitMode.HEURISTIC)
    assert need is not None
    assert roomy is not None
    assert need == pytest.approx(roomy + (100 << 8) * 0.99, abs=300)  # 100 MiB less, but for their struct pages


def test_rows_come_panel_by_panel_and_runs_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs a row; overcommit modes of the same box share them."""
    ran: list[tuple[str, int, bool]] = []

    def counted(kernel: str, level: int, box: Box, scheduler: str) -> Demand:
        ran.append((kernel, level, box.highpte))
        return demand(1)

    monkeypatch.setattr("rmaplab.lab.announcement.boundary.demand_of", counted)
    panels = [Panel(high, 128, "own", OvercommitMode(mode)) for high in (True, False) for mode in (0, 2)]
    rows = list(boundary(panels, ["20M", "38M"], announced()))
    assert [(r.panel, r.boot_use_bytes >> 20) for r in rows] == [(p, use) for p in panels for use in (20, 38)]
    assert len(ran) == 2 * 2 * 3
    assert rows[0].as_json()["holds_below_swap_bytes"] is None


def test_schedulers_differ_from_the_kernels_own_as_they_say() -> None:
    """Only the figures named change; "one-queue" schedules as 2.4.21 boots it, by every rule there is."""
    own = with_scheduler("2.6.2", "own").figures
    for name, changes in SCHEDULERS.items():
        theirs = with_scheduler("2.6.2", name).figures
        assert {figure for figure in own if own[figure].value != theirs[figure].value} <= set(changes)
    old, lent = (
        rmaplab.boot(kernel, ram="64M").machine.sched for kernel in ("2.4.21", with_scheduler("2.6.2", "one-queue"))
    )
    assert old.rules == lent.rules
    assert type(old.cpus[0].queue) is type(lent.cpus[0].queue)
    with pytest.raises(rmaplab.UsageError, match="parent-first"):
        with_scheduler("2.6.2", "mine")


def test_cells_that_must_swap_can_be_run_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here of 16 MiB on 23, at low levels. A cell says what a run on that box by itself comes to; what is certain is not run again."""
    monkeypatch.setattr(forkbench, "SIZE", 16 << 20)
    for name, level in (("PASSES", 1), ("FAILS", 3), ("REACHES", 4)):
        monkeypatch.setattr(f"rmaplab.lab.announcement.boundary.{name}", level)
    box = announced(ram="23M", boot_use="6M")
    swaps = [mib << 8 for mib in (0, 24)]
    (row,) = boundary([Panel(True, 128, "own", OvercommitMode.HEURISTIC)], ["6M"], box, swaps)
    assert row.seen
    for swap in swaps:
        here = replace(box, swap=str(swap * PAGE_SIZE), reclaim=True)
        went = {(kernel, level): run_forkbench(kernel, level, here).outcome for kernel, level, *_ in row.asked()}
        otherwise = [letter for kernel, level, _, published, letter in row.asked() if went[kernel, level] != published]
        assert row.cell(swap) == (otherwise or ["#"])[0]
        for run in row.seen[swap].runs if swap in row.seen else ():
            assert run.outcome == went[run.kernel, run.level]
    assert {run.pages_out > 0 for cell in row.seen.values() for run in cell.runs} >= {True}
    assert len(row.as_json()["to_the_end"]) == len(row.seen)
