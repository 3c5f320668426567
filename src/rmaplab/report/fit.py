"""What a fit found: parameters, residuals, and what each way to price a pte_chain predicts."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group

from rmaplab.kernels.prices import CHOSEN
from rmaplab.lab.announcement.baselines import PricedFit, Score, published_costs
from rmaplab.lab.announcement.fit import FITTED_LEVEL, Fit
from rmaplab.lab.announcement.published import FORKBENCH
from rmaplab.report.emit import Report
from rmaplab.report.tables import Table, new_table
from rmaplab.report.times import number, percent

BOXES = {"off": "4 CPUs", "on": "2 CPUs x 2 threads"}


@dataclass(frozen=True)
class FitReport(Report[PricedFit]):
    """What `fit` found, and what a prediction that knows nothing is worth."""

    baseline: Score

    def text(self) -> Group:
        """Parameters, residuals, models."""
        chosen = [priced.fit for priced in self.rows if priced.fit.book.model.name == CHOSEN]
        fitted = [_parameters(chosen), _residuals(chosen)] if chosen else []  # none, if it was interrupted early
        return Group(*fitted, _models(self.rows, self.baseline))


def _parameters(fits: Sequence[Fit]) -> Table:
    columns = "|".join(f">ns, {BOXES[fit.box.ht]}|>+-" for fit in fits)
    nr, rank = len(fits[0].book.parameters_ns), " and ".join(str(fit.rank) for fit in fits)
    turns = " and ".join(f"{fit.turns}{'' if fit.settled else ' (not still)'}" for fit in fits)
    table = new_table(
        f"{nr} parameters from the {len(fits[0].figures)} figures of level {FITTED_LEVEL}",
        f"parameter|{columns}|_what it is",
        caption=(
            f"Two boxes that both fit the announcement's words. Rank {rank}; the ledger stood still after {turns} turns.\n"
            "+-: a standard error, from the residuals. All other prices are given, with their sources: kernels/prices.py."
        ),
    )
    for parameter in fits[0].book.model.parameters:
        cells = [
            cell
            for fit in fits
            for cell in (f"{fit.book.parameters_ns[parameter.name]:,}", f"{fit.errors_ns[parameter.name]:,.0f}")
        ]
        table.add_row(parameter.name, *cells, parameter.about)
    return table


def _residuals(fits: Sequence[Fit]) -> Table:
    columns = "|".join(f">{BOXES[fit.box.ht]}|>off by" for fit in fits)
    table = new_table(
        f"level {FITTED_LEVEL}, which they were fitted to",
        f"kernel|figure|>published|>+- of two runs|{columns}",
        caption="; ".join(f"{BOXES[fit.box.ht]}: {fit.rms:.1%} root mean square" for fit in fits),
        leave_out="+- of two runs",
    )
    for i, figure in enumerate(fits[0].figures):
        scatter = FORKBENCH[figure.kernel, FITTED_LEVEL].scatter[figure.figure]
        cells = [cell for fit in fits for cell in (f"{fit.figures[i].model_s:.2f}", percent(fit.figures[i].deviation))]
        table.add_row(
            figure.kernel,
            figure.figure,
            f"{figure.published_s:.2f}",
            f"{scatter:.1%}",
            *cells,
            end_section=i + 1 == len(fits[0].figures) or fits[0].figures[i + 1].kernel != figure.kernel,
        )
    return table


def _models(fits: Sequence[PricedFit], baseline: Score) -> Table:
    level = baseline.level
    (below, fitted_us), (ratio, predicted_us) = published_costs(FITTED_LEVEL), published_costs(level)
    table = new_table(
        f"level {level}, predicted: the ways to price a pte_chain",
        f"box|_a chain costs|>ns|>level {FITTED_LEVEL} rms|>level {level} mean|>worst|of|>sys, 2.6.2 / aa1|>us per entry, {FITTED_LEVEL}|>{level}",
        caption=(
            f"us per entry: what chains cost per entry copied and torn down. Used: {CHOSEN}; docs/time.md says why, from outside level {level}.\n"
            f"mean, worst: of nine figures. sys at level {FITTED_LEVEL}: {number(below)} as published."
        ),
        leave_out=f"us per entry, {FITTED_LEVEL}|{level}|ns|of|worst",
    )
    for i, priced in enumerate(fits):
        found = priced.fit
        chain = found.book.model.parameters[-1]
        model = ("* " if found.book.model.name == CHOSEN else "  ") + found.book.model.about
        cells = [BOXES[found.box.ht], model, f"{found.book.parameters_ns[chain.name]:,}", f"{found.rms:.1%}"]
        cells += [f"{priced.score.mean:.1%}", percent(priced.score.worst), priced.score.worst_of]
        cells += [number(priced.score.sys_ratio), number(priced.fitted_us), number(priced.score.surcharge_us)]
        last = i + 1 == len(fits) or fits[i + 1].fit.box.ht != found.box.ht
        table.add_row(*cells, end_section=last)
    cells = [f"{baseline.mean:.1%}", percent(baseline.worst), baseline.worst_of]
    table.add_row("", f"  {baseline.name}, as published", "", "", *cells, number(baseline.sys_ratio), "", "")
    table.add_row("", "  as published", "", "", "", "", "", number(ratio), number(fitted_us), number(predicted_us))
    return table
