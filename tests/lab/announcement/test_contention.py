"""The analytic estimate: against a queue that is simulated for it."""

import random

import pytest

from rmaplab.lab.announcement.contention import lost_ns


def test_one_cpu_waits_for_nobody() -> None:
    assert lost_ns(10**9, 10**10, 1) == 0


def test_by_hand() -> None:
    """Held half of 10 s, 2 CPUs: found held with probability 1/4, and waited for half of what is left, 1 / (1 - 1/4) times."""
    assert lost_ns(5 * 10**9, 10**10, 2) == 5 * 10**9 // 6


@pytest.mark.parametrize("rho", [0.1, 0.3, 0.6])
def test_it_is_the_queue_it_says_it_is(rho: float) -> None:
    """Arrivals of very many CPUs that know nothing of each other, at a lock held for 1000 ns: the mean of their waits."""
    numbers, held, arrivals = random.Random(5), 1000, 200_000
    now = free = waited = 0.0
    for _ in range(arrivals):
        now += numbers.expovariate(rho / held)
        waited += max(0.0, free - now)
        free = max(now, free) + held
    assert lost_ns(arrivals * held, round(now), 10**6) == pytest.approx(waited, rel=0.05)
