"""Two calls at once: every order of their points is tried, up to a number of changes from one to the other.

    fault       |-- look --.              .-- lock -- entry --|
    truncate               '-- size - zap -'                     pages --|         one order, of a fault and a truncate with two changes

Each call is a greenlet, which stops at every point (machine/locks.py: a lock is about to be taken, memory is asked for) and goes on when its
turn comes; one that would wait for a lock has no turn. An order is a list of (how many points, then the other), so what fails can be run
again by itself.

The calls are those of tasks that are driven from outside. docs/locking.md says what is assumed.
"""

from collections.abc import Callable, Iterator, Sequence

from greenlet import getcurrent, greenlet

from rmaplab.kernels.system import System
from rmaplab.machine.locks import Lock, Point

FAR = 1 << 30
"""More points than a call has."""


class Together:
    """Two calls on `system`, in one order: the first goes on for `turns[0]` points, then the other for `turns[1]`, and so on; then each to its end.

    `seen` are the points that each has come to, `changed` how often a turn really ended between them.
    """

    def __init__(self, system: System, calls: Sequence[Callable[[], None]], turns: Sequence[int]) -> None:
        self._system, self._hub = system, getcurrent()
        self._running = 0
        self._waits: list[Lock | None] = [None] * len(calls)
        self.seen: list[list[str]] = [[] for _ in calls]
        self._green = [greenlet(call) for call in calls]
        self._turns = list(turns)

    def run(self) -> None:
        """Raises what the calls raise, and AssertionError where both wait for each other."""
        self._system.watch(self._reached)
        try:
            turn = 0
            for points in [*self._turns, FAR, FAR]:
                self._go(turn, points)
                turn = 1 - turn
            while not all(green.dead for green in self._green):  # somebody has had to wait
                before = [len(seen) for seen in self.seen]
                for each in (0, 1):
                    self._go(each, FAR)
                if before == [len(seen) for seen in self.seen] and not any(green.dead for green in self._green):
                    raise AssertionError("both wait for each other")
        finally:
            self._system.watch(None)

    def _go(self, which: int, points: int) -> None:
        """One of them goes on, for so many points, until it is done or would have to wait."""
        green = self._green[which]
        for _ in range(points + 1):
            lock = self._waits[which]
            if green.dead or (lock is not None and lock.busy(write=True)):
                return
            self._running, self._waits[which] = which, None
            self._system.machine.locks.acting = False  # who stopped has set it; when he goes on, he clears it himself
            green.switch()

    def _reached(self, point: Point) -> None:
        """A point: the hub says who is next."""
        self.seen[self._running].append(point.name)
        self._waits[self._running] = point.waits_for
        self._hub.switch()


def orders(changes: int, most: int) -> Iterator[tuple[int, ...]]:
    """Orders with up to `changes` changes of turn, each after 0 to `most` points."""
    if not changes:
        yield ()
        return
    for points in range(most + 1):
        for rest in orders(changes - 1, most):
            yield (points, *rest)
