"""Simulated seconds beside published ones: the announcement's table, and how much of it was predicted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group

from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.baselines import Score, published_costs
from rmaplab.lab.announcement.experiment import Result
from rmaplab.lab.announcement.fit import FITTED_LEVEL
from rmaplab.lab.announcement.published import FIGURES, published_kernels
from rmaplab.report.emit import Report
from rmaplab.report.results import COMPARED, ENTRIES, comparison, kernel_entries, outcome_of
from rmaplab.report.tables import DASH, Table, new_table

NOT_KNOWN = [DASH] * 3
SCORED = "level|prediction|>figures|>mean|>worst|of|>sys, 2.6.2 / aa1|>chains, us per entry"


@dataclass(frozen=True)
class Comparison(Report[Result]):
    """What `compare` found on one box. `scores` are the baselines, where there is something to compare with."""

    columns = "|".join((COMPARED, ENTRIES, SCORED, *FIGURES, "published|off by"))
    box: Box
    scores: Sequence[Score]

    def text(self) -> Group:
        """What was counted, the baselines, and then the times."""
        simulated = [result for result in self.rows if result.time_s is not None]  # the real kernel is not
        scores = [_scores(self.scores)] if self.scores else []
        return Group(comparison(self.rows, self.box), *scores, _times(simulated), *kernel_entries(self.rows))


def _times(results: Sequence[Result]) -> Table:
    """A row per level and kernel: real, user and sys, each as simulated, as published (mean of the runs) and the deviation."""
    prices = next((result.prices for result in results if result.prices), DASH)
    columns = "|".join(f">{figure}|>published|>off by" for figure in FIGURES)
    table = new_table(
        f"seconds, price list {prices}: fitted to level {FITTED_LEVEL}, the rest is predicted",
        f"level|kernel|{columns}",
        caption=(
            "published: the announcement of 18 March 2004, means of two runs.\n"
            "What was fitted, and how well: rmaplab fit. What cannot be known: docs/time.md." + _strangers(results)
        ),
        leave_out="published|off by",
    )
    for i, result in enumerate(results):
        last = i + 1 == len(results) or results[i + 1].level != result.level
        cells = [cell for figure in FIGURES for cell in _cells(result, figure)]
        table.add_row(str(result.level), result.kernel, *cells, end_section=last)
    return table


def _strangers(results: Sequence[Result]) -> str:
    """A line about kernels that nobody published seconds of, if there are any."""
    known = published_kernels(FITTED_LEVEL)
    others = [name for name in dict.fromkeys(result.kernel for result in results) if name not in known]
    if not others:
        return ""
    return f"\n{', '.join(others)}: at the prices of 2004's kernels, which are not theirs; compare counts, not seconds."


def _cells(result: Result, figure: str) -> list[str]:
    if result.outcome != "ok" or result.time_s is None:
        return [outcome_of(result), DASH, DASH] if figure == "real" else NOT_KNOWN
    seconds = result.time_s[figure]
    if result.published_s is None:
        return [f"{seconds:.2f}", DASH, DASH]
    wanted = result.published_s[figure]
    return [f"{seconds:.2f}", f"{wanted:.2f}", percent(seconds / wanted - 1)]


def _scores(scores: Sequence[Score]) -> Table:
    """The predictions against two baselines."""
    table = new_table(
        "how far the predictions are off, beside two that know nothing of sharing",
        SCORED,
        caption=(
            "mean: of the absolute deviations. chains: what 2.6.2 takes longer than 2.6.5-rc1-aa1, per entry\n"
            "copied and torn down."
        ),
        leave_out="of|figures|worst",
    )
    for level in dict.fromkeys(row.level for row in scores):
        for row in (each for each in scores if each.level == level):
            off_by = f"{row.mean:.1%}", percent(row.worst), row.worst_of
            costs = number(row.sys_ratio), number(row.surcharge_us)
            table.add_row(str(level), row.name, str(row.nr_figures), *off_by, *costs)
        ratio, surcharge = published_costs(level)
        table.add_row(str(level), "as published", "", "", "", "", number(ratio), number(surcharge), end_section=True)
    return table


@dataclass(frozen=True)
class Scaling(Report[Result]):
    """What `compare` found on several boxes, which differ in CPUs and how they share cores; `box` is one of them."""

    box: Box

    def text(self) -> Table:
        """A row per level, kernel and box: how real time falls with CPUs, and what is lost on the way."""
        results = self.rows
        measured, small = _classes(result.locks_waited_s for result in results)
        estimated, smaller = _classes(result.locks_estimated_s or {} for result in results)
        least = ", ".join([*small, *(f"~{name}" for name in smaller)])
        columns = [f">{name}" for name in measured] + [f">~{name}" for name in estimated]
        prices = next((result.prices for result in results if result.prices), DASH)
        table = new_table(
            f"{results[0].workload} over CPUs; {self.box.ram} RAM, price list {prices}",
            "|".join(["level|kernel|>CPUs|threads|>real|>speed-up|>efficiency|>idle|>sys", *columns]),
            caption=(
                "speed-up: to the first row of the kernel. efficiency: speed-up per CPU. idle: CPU time without a task.\n"
                "Locks: CPU time lost, in s over all CPUs, that went by in the simulation"
                + (f"; below 1 ms in every row: {least}" if least else "")
                + ".\n~ is an analytic estimate, for locks that are not simulated (lab/announcement/contention.py).\n"
                "Prices are those of 4 CPUs: a bus that gets slower with every CPU is not in them."
            ),
            leave_out="|".join([*(f"~{name}" for name in estimated), *measured, "idle", "efficiency"]),
        )
        for i, result in enumerate(results):
            last = i + 1 == len(results) or (results[i + 1].level, results[i + 1].kernel) != (
                result.level,
                result.kernel,
            )
            peers = [each for each in results if (each.level, each.kernel) == (result.level, result.kernel)]
            table.add_row(*_scaling_row(result, peers[0], measured, estimated), end_section=last)
        return table


def _scaling_row(result: Result, first: Result, measured: Sequence[str], estimated: Sequence[str]) -> list[str]:
    cpus, how = result.hardware["cpus"], result.hardware["ht"]
    row = [str(result.level), result.kernel, str(cpus), DASH if how == "off" else f"2 a core, {how}"]
    if result.time_s is None or result.outcome != "ok":
        return [*row, result.outcome]
    real, busy = result.time_s["real"], result.time_s["user"] + result.time_s["sys"]
    row += [f"{real:.2f}", DASH, DASH] if first.time_s is None or first.outcome != "ok" else _speed_up(result, first)
    row += [f"{max(0.0, 1 - busy / (real * cpus)):.0%}", f"{result.time_s['sys']:.2f}"]
    waited, guessed = result.locks_waited_s, result.locks_estimated_s or {}
    return (
        row
        + [f"{waited.get(name, 0):.3f}" for name in measured]
        + [f"{guessed[name]:.3f}" if name in guessed else DASH for name in estimated]
    )


def _speed_up(result: Result, first: Result) -> list[str]:
    assert result.time_s is not None
    assert first.time_s is not None
    times = first.time_s["real"] / result.time_s["real"]
    return [
        f"{result.time_s['real']:.2f}",
        f"{times:.2f}",
        f"{times * first.hardware['cpus'] / result.hardware['cpus']:.0%}",
    ]


def _classes(each: Iterable[Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """Lock classes that lost a millisecond somewhere, and those that did not."""
    most: dict[str, float] = {}
    for losses in each:
        for name, seconds in losses.items():
            most[name] = max(most.get(name, 0), seconds)
    return [name for name in most if most[name] >= 1e-3], [name for name in most if most[name] < 1e-3]


def percent(value: float) -> str:
    """A relative deviation with its sign."""
    return f"{value:+.1%}"


def number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return DASH if value is None else f"{value:.2f}"
