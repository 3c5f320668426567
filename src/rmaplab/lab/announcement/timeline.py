"""Where the seconds of a run come from: real, user and system time as sums of operations.

    CPU 0   |==== fork 1 ====|== touch ==|==== fork 2 ====|
    CPU 1   |                |====== touch ======|
    real    |       1        |1/2 1/2    |1/2 1/2| 1       |     while two CPUs work, each stands for half of a second

A burst of work is so many operations of each kind. User and system time are the sum of all bursts. Real time is that, too, if
each moment is divided among the CPUs that work in it. So all three are linear in the prices, as long as the schedule stays
what it is: seconds = sum over operations of (weight x price) + rest. `rmaplab fit` solves for the prices, and runs again.

What a burst waits for locks counts as if its operations took longer: with all prices doubled it would double, too. The rest is
time in which nobody works: an idle machine waits for a tick.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rmaplab.kernels.system import System
from rmaplab.machine.arrays import F64
from rmaplab.machine.runqueue import SchedEntity


@dataclass
class Burst:
    """One burst: its operations, their price, and the pieces in which it was done, (from, to) in ns."""

    counts: Mapping[str, int]
    ns: int
    user: bool = False
    pieces: list[tuple[int, int]] = field(default_factory=list)


class Timeline:
    """An observer of a system's scheduler (machine.sched.Observer) that keeps all bursts."""

    def __init__(self, system: System) -> None:
        self._ledger, self._sched = system.machine.ledger, system.machine.sched
        self._before: Counter[str] = self._ledger.counts.copy()
        self._current: dict[SchedEntity, Burst] = {}
        self.bursts: list[Burst] = []
        self._sched.observer = self

    def burst(self, entity: SchedEntity, ns: int) -> None:
        """What was counted since the last burst of any task belongs to this one: nobody else ran in between."""
        counts = self._ledger.counts
        before = self._before
        done = {operation: nr - before[operation] for operation, nr in counts.items() if nr != before[operation]}
        self._before = counts.copy()
        price = sum(nr * self._ledger.prices.ns.get(operation, 0) for operation, nr in done.items())
        if ns:
            self._current[entity] = burst = Burst(done, price or ns)
            self.bursts.append(burst)

    def work(self, entity: SchedEntity, began_ns: int, ended_ns: int, *, user: bool) -> None:
        """A piece of the burst that the task announced last."""
        if ended_ns > began_ns:
            burst = self._current[entity]
            burst.user = user
            burst.pieces.append((began_ns, ended_ns))

    def weights(self) -> dict[str, dict[str, float]]:
        """By figure (real, user, sys): how often each operation's price counts in it. A sum of n prices is n; times in ns."""
        sums: dict[str, defaultdict[str, float]] = {figure: defaultdict(float) for figure in ("real", "user", "sys")}
        shares = self._shares()
        for burst, share in zip(self.bursts, shares.tolist(), strict=True):
            took = sum(end - begin for begin, end in burst.pieces)
            mode = sums["user" if burst.user else "sys"]
            for operation, nr in burst.counts.items():
                mode[operation] += nr * took / burst.ns
                sums["real"][operation] += nr * share / burst.ns
        return {figure: dict(weights) for figure, weights in sums.items()}

    def seconds(self) -> dict[str, float]:
        """The figures themselves."""
        sched = self._sched
        return {"real": sched.now_ns / 10**9, "user": sched.user_ns / 10**9, "sys": sched.system_ns / 10**9}

    def _shares(self) -> F64:
        """For each burst, the ns of real time that are its: every moment divided among the CPUs that work in it."""
        pieces = np.array([piece for burst in self.bursts for piece in burst.pieces], np.int64).reshape(-1, 2)
        owner = np.repeat(np.arange(len(self.bursts)), [len(burst.pieces) for burst in self.bursts])
        moments, steps = np.unique(pieces, return_inverse=True)
        steps = steps.reshape(-1, 2)
        change = np.zeros(moments.size, np.int64)
        np.add.at(change, steps[:, 0], 1)
        np.add.at(change, steps[:, 1], -1)
        working = np.cumsum(change)[:-1]
        lengths = np.diff(moments)
        divided = np.concatenate([[0.0], np.cumsum(np.where(working > 0, lengths / np.maximum(working, 1), 0.0))])
        shares = np.zeros(len(self.bursts))
        np.add.at(shares, owner, divided[steps[:, 1]] - divided[steps[:, 0]])
        return shares
