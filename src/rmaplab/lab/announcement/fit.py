"""Fitting a price list to published seconds: non-negative least squares, repeated until the ledger stands still.

    prices ---> run level 6 on each kernel ---> weights of every operation in real, user, sys (timeline.py)
      ^                                                       |
      +---------- solve: weights x prices = published <-------+        until the counts are those of the turn before,
                  (half the way, if the fit got worse by it)           and no price moves by more than it can be known

The figures are the nine of level 6: real, user and sys of three kernels, each the mean of two runs. All count alike, by their
relative deviation. The parameters are those of a model (kernels/prices.py): five, never more than the figures; the rank of
the matrix says whether the figures tell them apart. Level 7 is not looked at here: baselines.py does, afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.prices import Model, PriceBook, book_name
from rmaplab.kernels.system import boot
from rmaplab.lab.announcement.published import FIGURES, FORKBENCH, published_kernels
from rmaplab.lab.announcement.timeline import Timeline
from rmaplab.machine.arrays import F64
from rmaplab.workloads.forkbench import Forkbench

FITTED_LEVEL = 6
MOST_TURNS = 20
STILL = 0.125  # of a standard error: schedules jump, and prices with them, by less than anybody can know
START_NS = 500  # of every parameter: the first schedule comes from that


@dataclass(frozen=True)
class FittedFigure:
    """One published figure beside what the fitted prices make of it."""

    kernel: str
    figure: str
    published_s: float
    model_s: float

    @property
    def deviation(self) -> float:
        """Relative to the published one."""
        return self.model_s / self.published_s - 1


@dataclass(frozen=True)
class Fit:
    """A fitted price book, and how well it does what it was fitted to."""

    book: PriceBook
    box: Box
    figures: tuple[FittedFigure, ...]
    errors_ns: Mapping[str, float]
    """One standard error per parameter, from the residuals."""
    rank: int
    turns: int
    settled: bool
    """Whether it stood still in the end."""

    @property
    def rms(self) -> float:
        """The root mean square of the relative deviations."""
        return float(np.sqrt(np.mean([figure.deviation**2 for figure in self.figures])))

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "prices": self.book.name,
            "model": self.book.model.name,
            "ht": self.box.ht,
            "parameters_ns": dict(self.book.parameters_ns),
            "standard_errors_ns": dict(self.errors_ns),
            "figures": [
                {
                    "kernel": figure.kernel,
                    "figure": figure.figure,
                    "published_s": figure.published_s,
                    "time_s": figure.model_s,
                    "deviation": figure.deviation,
                }
                for figure in self.figures
            ],
            "rank": self.rank,
            "turns": self.turns,
            "settled": self.settled,
        }


def nnls(matrix: F64, wanted: F64) -> F64:
    """The x >= 0 for which |matrix @ x - wanted| is least: the active-set method of Lawson and Hanson (1974, chapter 23).

    Shapes (rows, columns), (rows,) -> (columns,). O(columns) least-squares problems, usually.
    """
    x = np.zeros(matrix.shape[1])
    free = np.zeros(x.size, np.bool_)
    tolerance = 1e-12 * float(np.abs(matrix.T @ wanted).max(initial=0.0))
    for _ in range(3 * x.size + 1):
        gradient = matrix.T @ (wanted - matrix @ x)
        if free.all() or gradient[~free].max() <= tolerance:
            return x
        free[np.where(free, -np.inf, gradient).argmax()] = True
        while True:
            trial = np.zeros_like(x)
            trial[free] = np.linalg.lstsq(matrix[:, free], wanted, rcond=None)[0]
            below = free & (trial <= 0)
            if not below.any():
                break
            step = float((x[below] / (x[below] - trial[below])).min())
            x = x + step * (trial - x)
            free &= x > tolerance
            x[~free] = 0.0
        x = trial
    return x


def fit(model: Model, box: Box, *, start: PriceBook | None = None, turn: Callable[[], None] = lambda: None) -> Fit:
    """Fit a model's parameters to level 6 on this box: some seconds. `start` gives the first schedule, `turn` hears of each.

    Raises UsageError if there are more parameters than figures.
    """
    kernels = published_kernels(FITTED_LEVEL)
    wanted = np.array([FORKBENCH[kernel, FITTED_LEVEL].mean_s[figure] for kernel in kernels for figure in FIGURES])
    names = [parameter.name for parameter in model.parameters]
    if len(names) > wanted.size:
        raise UsageError(f"{len(names)} parameters for {wanted.size} figures: take a model with fewer")
    name = book_name(siblings=box.ht != "off", model=model.name)
    prices = np.array([START_NS] * len(names) if start is None else [start.parameters_ns[n] for n in names], np.float64)
    counts_before: list[Mapping[str, int]] | None = None
    best: tuple[Fit, F64] | None = None  # and where it wants to go
    step = 1.0
    for turns in range(1, MOST_TURNS + 1):
        book = PriceBook(name, model, {n: round(ns) for n, ns in zip(names, prices.tolist(), strict=True)})
        matrix, rest, now, counts = _linear(book, replace(box, prices=book), kernels)
        scaled = matrix / wanted[:, None]
        solved = nnls(scaled, (wanted - rest) / wanted)
        errors = _standard_errors(scaled, now / wanted - 1)
        moves = np.abs(solved.round() - prices.round())
        settled = counts == counts_before and bool((moves <= np.maximum(1.0, STILL * errors)).all())
        figures = tuple(
            FittedFigure(kernel, figure, float(wanted[i]), float(now[i]))
            for i, (kernel, figure) in enumerate((k, f) for k in kernels for f in FIGURES)
        )
        rank = int(np.linalg.matrix_rank(scaled))
        found = Fit(book, box, figures, dict(zip(names, errors.tolist(), strict=True)), rank, turns, settled)
        turn()
        if settled:
            return found
        if best is None or found.rms < best[0].rms:
            best, step = (found, solved), 1.0
        else:  # too far: the schedule answered; half the way
            step /= 2
        before = np.array(list(best[0].book.parameters_ns.values()), np.float64)
        prices, counts_before = before + step * (best[1] - before), counts
    assert best is not None
    return replace(best[0], turns=MOST_TURNS)


def _linear(book: PriceBook, box: Box, kernels: list[str]) -> tuple[F64, F64, F64, list[Mapping[str, int]]]:
    """Run the fitted level: by figure (seconds per ns of each parameter, seconds that no parameter explains, seconds).

    And the ledger of each kernel.
    """
    rows: list[list[float]] = []
    now: list[float] = []
    counts: list[Mapping[str, int]] = []
    for kernel in kernels:
        system = boot(kernel, box)
        timeline = Timeline(system)
        Forkbench(FITTED_LEVEL).run(system)
        weights, seconds = timeline.weights(), timeline.seconds()
        software = find_kernel(kernel).software
        for figure in FIGURES:
            rows.append(
                [
                    sum(
                        float(share) * weights[figure].get(operation, 0)
                        for operation, share in parameter.shares.items()
                    )
                    / 10**9
                    if parameter.software in (None, software)
                    else 0.0
                    for parameter in book.model.parameters
                ]
            )
            now.append(seconds[figure])
        counts.append(system.machine.ledger.counts)
    matrix, seconds_now = np.array(rows), np.array(now)
    prices = np.array(list(book.parameters_ns.values()), np.float64)
    return matrix, seconds_now - matrix @ prices, seconds_now, counts


def _standard_errors(scaled: F64, residuals: F64) -> F64:
    spare = max(scaled.shape[0] - scaled.shape[1], 1)
    covariance = np.linalg.pinv(scaled.T @ scaled) * float(residuals @ residuals) / spare
    errors: F64 = np.sqrt(np.diag(covariance))
    return errors
