"""`make time`: tables of docs/time.md: what the fit hangs on, CPUs, threads. Some two minutes.

rmaplab fit and rmaplab compare print the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

from rmaplab.kernels.box import announced
from rmaplab.kernels.prices import CHOSEN, MODELS, Model
from rmaplab.lab.announcement.baselines import PricedFit, judge_fit
from rmaplab.lab.announcement.experiment import Result, run_forkbench
from rmaplab.machine.locks import Locks

LEVEL = 7
KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1")
LINE = MODELS[CHOSEN]


def with_split(copied: Fraction) -> Model:
    """The chosen model, with another share of an entry's life spent on copying it."""
    shares = {"pte_copy": copied, "pte_zap": 1 - copied}
    parameters = (replace(p, shares=shares) if "pte_zap" in p.shares else p for p in LINE.parameters)
    return replace(LINE, parameters=tuple(parameters))


@contextmanager
def nobody_waits_at_pages() -> Iterator[None]:
    """Bursts overtake each other."""
    before = Locks.wait_for_sweeps

    def never(locks: Locks, ns: int) -> int:
        locks._sweeping.clear()  # noqa: SLF001
        return 0

    Locks.wait_for_sweeps = never  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Locks.wait_for_sweeps = before  # type: ignore[method-assign]


def assumption(what: str, priced: PricedFit) -> None:
    """A row of "How much hangs on assumptions"."""
    found = priced.score
    prices = ", ".join(f"{ns}" for ns in priced.fit.book.parameters_ns.values())
    print(
        f"| {what} | {priced.fit.rms:.1%} | {found.mean:.1%} | {found.worst:+.1%} | {found.sys_ratio:.2f} | {prices} |",
        flush=True,
    )


def assumptions() -> None:
    """Each a new fit to level 6, and its level 7."""
    print(
        "| changed | level 6 rms | level 7 mean | worst | sys ratio | touch, fault, entry 2.4, entry 2.6, line (ns) |"
    )
    print("|---|---|---|---|---|---|")
    assumption("nothing: 4 CPUs", judge_fit(LINE, announced()))
    assumption("2 CPUs x 2 threads", judge_fit(LINE, announced(ht="on")))
    assumption("the same, and all schedulers know siblings", judge_fit(LINE, announced(ht="aware")))
    assumption("copying an entry takes 30 % of its life, not half", judge_fit(with_split(Fraction(3, 10)), announced()))
    assumption("70 %", judge_fit(with_split(Fraction(7, 10)), announced()))
    with nobody_waits_at_pages():
        assumption("nobody waits at page locks", judge_fit(LINE, announced()))
    assumption("page tables in low memory: 31 slots per block, not 15", judge_fit(LINE, announced(highpte=False)))
    assumption("64-byte cache lines: 7 slots per block", judge_fit(LINE, announced(l1_cache_bytes=64)))


def real(result: Result) -> float:
    """Real time in seconds."""
    assert result.time_s is not None
    return result.time_s["real"]


def cpus() -> None:
    """Real time and speed-up, and what 2.6.2 loses at page locks."""
    print(f"\n| CPUs | {' | '.join(KERNELS)} | 2.6.2 lost at PG_chainlock |")
    print(f"|---|{'---|' * (len(KERNELS) + 1)}")
    first: dict[str, float] = {}
    for nr in (1, 2, 4, 8, 16, 32, 64):
        runs = {kernel: run_forkbench(kernel, LEVEL, announced(cpus=nr)) for kernel in KERNELS}
        cells = []
        for kernel, run in runs.items():
            first.setdefault(kernel, real(run))
            cells.append(f"{real(run):.2f} s, {first[kernel] / real(run):.2f}")
        lost = runs["2.6.2"].locks_waited_s.get("PG_chainlock", 0)
        print(f"| {nr} | {' | '.join(cells)} | {lost:.2f} s |", flush=True)


def threads() -> None:
    """Two threads to a core, and a scheduler that does not know it or does."""
    print(f"\n| CPUs, two to a core | {' | '.join(f'{kernel}: blind, aware' for kernel in KERNELS)} |")
    print(f"|---|{'---|' * len(KERNELS)}")
    for nr in (4, 8, 16):
        cells = []
        for kernel in KERNELS:
            blind, aware = (
                real(run_forkbench(kernel, LEVEL, announced(cpus=nr, ht=how))) for how in ("blind", "aware")
            )
            cells.append(f"{blind:.2f}, {aware:.2f} s ({aware / blind - 1:+.1%})")
        print(f"| {nr} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    assumptions()
    cpus()
    threads()
