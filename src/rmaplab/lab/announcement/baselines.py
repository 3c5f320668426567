"""How good is a prediction? Beside every one stand two that need no model of sharing.

    twice level 6         every published figure of level 6, doubled for each level above it
    one price per entry   the same fit and the same machine, but a pte_chain costs the same per entry, whoever shares the page

A model that counts chain walks has to be better than both, or the walks explain nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from rmaplab.kernels.box import Box, announced
from rmaplab.kernels.prices import CHOSEN, MODELS, NULL, Model, book_name, price_books
from rmaplab.lab.announcement.experiment import Result, run_forkbench
from rmaplab.lab.announcement.fit import FITTED_LEVEL, Fit, fit
from rmaplab.lab.announcement.published import CHAINS, FIGURES, FORKBENCH, OBJECTS, published_kernels
from rmaplab.workloads.forkbench import NR_PAGES

PREDICTED_LEVEL = 7

Times = Mapping[str, Mapping[str, float]]
"""Seconds by kernel, then by figure."""


@dataclass(frozen=True)
class Score:
    """How far predictions of one level are from what was published: over the figures of the kernels at hand."""

    name: str
    level: int
    nr_figures: int
    mean: float
    """Mean absolute deviation, relative."""
    worst: float
    """The largest deviation, with its sign."""
    worst_of: str
    sys_ratio: float | None
    """System time of 2.6.2 over that of 2.6.5-rc1-aa1; None if one of them is missing."""
    surcharge_us: float | None
    """The difference of the two, per entry copied and torn down, in microseconds."""


def score(name: str, level: int, times: Times) -> Score:
    """Compare with what was published. At least one kernel must have been published at this level."""
    deviations = {
        f"{figure} of {kernel}": times[kernel][figure] / FORKBENCH[kernel, level].mean_s[figure] - 1
        for kernel in times
        for figure in FIGURES
    }
    worst_of = max(deviations, key=lambda what: abs(deviations[what]))
    mean = sum(abs(deviation) for deviation in deviations.values()) / len(deviations)
    ratio, surcharge = chain_cost(level, times)
    return Score(name, level, len(deviations), mean, deviations[worst_of], worst_of, ratio, surcharge)


def chain_cost(level: int, times: Times) -> tuple[float | None, float | None]:
    """(sys of 2.6.2 / sys of 2.6.5-rc1-aa1, the difference per entry in microseconds), None without both."""
    if not (CHAINS in times and OBJECTS in times):
        return None, None
    chains, objects = times[CHAINS]["sys"], times[OBJECTS]["sys"]
    return chains / objects, (chains - objects) * 1e6 / (((1 << level) - 1) * NR_PAGES)


def published_times(level: int, kernels: Sequence[str]) -> dict[str, dict[str, float]]:
    """What was published of these kernels at a level."""
    return {kernel: FORKBENCH[kernel, level].mean_s for kernel in kernels if (kernel, level) in FORKBENCH}


def twice(level: int, kernels: Sequence[str]) -> Times:
    """Level 6 as published, doubled for each level above it."""
    factor = 2.0 ** (level - FITTED_LEVEL)
    fitted = published_times(FITTED_LEVEL, kernels)
    return {kernel: {figure: seconds * factor for figure, seconds in times.items()} for kernel, times in fitted.items()}


def times_of(results: Sequence[Result]) -> Times:
    """The times of those results that have been published and went well."""
    return {
        r.kernel: r.time_s for r in results if r.published_s is not None and r.time_s is not None and r.outcome == "ok"
    }


def baselines(results: Sequence[Result], box: Box) -> list[Score]:
    """For each level of `results` above the fitted one with published figures: the results, then the two baselines.

    Runs the kernels again with the baseline's prices.
    """
    found = []
    for level in sorted({result.level for result in results}):
        times = times_of([result for result in results if result.level == level])
        if level == FITTED_LEVEL or not times:
            continue
        kernels = list(times)
        found.append(score("this table", level, times))
        null = price_books()[book_name(siblings=box.ht != "off", model=NULL)]
        again = [run_forkbench(kernel, level, replace(box, prices=null)) for kernel in kernels]
        found.append(score("one price per entry", level, times_of(again)))
        found.append(score("twice level 6", level, twice(level, kernels)))
    return found


def published_costs(level: int) -> tuple[float | None, float | None]:
    """chain_cost, as published."""
    return chain_cost(level, published_times(level, published_kernels(level)))


# -- fits, judged by the level that they have not seen ---------------------------------------------------------------


@dataclass(frozen=True)
class PricedFit:
    """A fit, what it predicts, and the chains' cost per entry at the fitted level in microseconds."""

    fit: Fit
    score: Score
    fitted_us: float | None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**self.fit.as_json(), "fitted_chains_us": self.fitted_us, "predicted": asdict(self.score)}


def judge_fit(model: Model, box: Box) -> PricedFit:
    """Fit a model to level 6, then predict level 7 with it."""
    found = fit(model, box)
    at_six: dict[str, dict[str, float]] = {}
    for figure in found.figures:
        at_six.setdefault(figure.kernel, {})[figure.figure] = figure.model_s
    level, priced = PREDICTED_LEVEL, replace(box, prices=found.book)
    results = [run_forkbench(kernel, level, priced) for kernel in published_kernels(level)]
    at_seven = {result.kernel: result.time_s for result in results if result.time_s is not None}
    return PricedFit(found, score(found.book.name, level, at_seven), chain_cost(FITTED_LEVEL, at_six)[1])


def fits_to_show() -> list[Callable[[], PricedFit]]:
    """What `rmaplab fit` does: all models on four CPUs, and on two with two threads each the chosen one and the null one."""
    four, threads = announced(), announced(ht="on")
    jobs = [(model, four) for model in MODELS.values()] + [(MODELS[CHOSEN], threads), (MODELS[NULL], threads)]
    return [partial(judge_fit, model, box) for model, box in jobs]
