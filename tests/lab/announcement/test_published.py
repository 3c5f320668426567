"""Published figures: the table of the announcement, digit by digit where the reference has it, and what follows from it."""

import pytest

from rmaplab.lab.announcement.baselines import chain_cost, published_times, score, twice
from rmaplab.lab.announcement.published import FORKBENCH, published_kernels

KERNELS = ["2.4.21", "2.6.5-rc1-aa1", "2.6.2"]


def test_the_means_of_two_runs() -> None:
    """history.md 3.1: 2.6.2 at level 7 took 16.150 and 16.082 real, 21.184 and 21.441 user, 38.473 and 38.025 sys."""
    assert FORKBENCH["2.6.2", 7].mean_s == pytest.approx({"real": 16.116, "user": 21.3125, "sys": 38.249})
    assert FORKBENCH["2.6.2", 6].scatter["user"] == pytest.approx((10.490 - 9.684) / 2 / 10.087)
    assert published_kernels(6) == published_kernels(7) == KERNELS
    assert published_kernels(8) == []


def test_what_the_reference_derives_from_them() -> None:
    """history.md 3.1: 2.6.2 / aa1 in system time 1.51 and 1.73; the chains' surcharge 0.73 to 0.97 us per entry."""
    for level, ratio, surcharge in ((6, 1.51, 0.73), (7, 1.73, 0.97)):
        found, per_entry = chain_cost(level, published_times(level, KERNELS))
        assert found == pytest.approx(ratio, abs=0.005)
        assert per_entry == pytest.approx(surcharge, abs=0.01)
    assert chain_cost(7, published_times(7, ["2.6.2"])) == (None, None)


def test_a_score_by_hand() -> None:
    """Two kernels, six figures: everything 10 % too high but one real time that is 20 % too low."""
    times = {k: {f: s * 1.1 for f, s in published_times(7, [k])[k].items()} for k in ("2.4.21", "2.6.2")}
    times["2.6.2"]["real"] = 16.116 * 0.8
    found = score("by hand", 7, times)
    assert (found.nr_figures, found.worst_of) == (6, "real of 2.6.2")
    assert found.worst == pytest.approx(-0.2)
    assert found.mean == pytest.approx((5 * 0.1 + 0.2) / 6)


def test_twice_level_6_is_the_baseline() -> None:
    """Level 7 has twice the processes: 2 x 6.616 s of 2.4.21's real time, 10 % more than the 12.0035 s it took."""
    assert twice(7, KERNELS)["2.4.21"]["real"] == pytest.approx(2 * 6.616)
    found = score("twice", 7, twice(7, KERNELS))
    assert found.worst_of == "real of 2.4.21"
    assert found.worst == pytest.approx(2 * 6.616 / 12.0035 - 1)
