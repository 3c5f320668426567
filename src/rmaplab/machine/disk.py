"""A disk that takes time: one queue, served in order, and one head.

    a request      pages of one file that lie side by side, in one go: read-ahead windows cost one seek
    it takes       nothing but its transfer if it begins where the last one ended; else first a seek and half a turn

    task    read: page 7 is not there ---> submit(pages 7 to 22) ---> sleeps on page 7 ............ goes on
    disk                                   | seek | half a turn | 16 pages |-> finish(), who waited is woken
    others                                 run meanwhile

Whoever submits goes on; only who waits sleeps. Driven from outside, without a running task, the clock moves to the request's end instead. Two pages
of different files are as far apart as any two. A request that goes on where the last one ends becomes part of it, if its submitter says so and that has not begun: so
pages that are swapped out one by one are written together. No elevator beyond that, no cache of its own.

Source: the figures are a desktop disk's of 2004 (kernels/box.py).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rmaplab.machine.arrays import I64
from rmaplab.machine.hardware import NO_TIME, DiskSpeed
from rmaplab.machine.ledger import Ledger
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler

READS, WRITES = ("disk_read", "swap_read"), ("disk_write", "swap_write")
"""Of files, and of swap: what the ledger counts them as."""
MOST_PAGES = 32  # of a request: max_sectors is 256
MOST_REQUESTS = 128  # of a direction: BLKDEV_MAX_RQ of 2.6.9's include/linux/blkdev.h, with count[2] in struct request_list; as many in 2.4, from memory
CONGESTED_FROM, CONGESTED_TO = MOST_REQUESTS - MOST_REQUESTS // 8 + 1, MOST_REQUESTS - MOST_REQUESTS // 8 - 1
"""Writes that make the queue congested, and below which it is so no more: 2.6.2 drivers/block/ll_rw_blk.c, queue_congestion_on_threshold, queue_congestion_off_threshold."""


@dataclass(slots=True, eq=False)
class DiskRequest:
    """Under way from `began_ns` to `when_ns`; `finish` is what happens then."""

    began_ns: int
    when_ns: int
    operation: str
    place: tuple[int, int, int]
    """Which file, its first page and how many."""
    finish: list[Callable[[], None]]
    done: bool = False
    waiters: list[SchedEntity] = field(default_factory=list)


class Disk:
    """The queue of one disk."""

    def __init__(self, speed: DiskSpeed, sched: Scheduler, ledger: Ledger) -> None:
        self.speed = speed
        self._sched, self._ledger = sched, ledger
        self._queue: deque[DiskRequest] = deque()
        self._head = (-1, 0)  # which file, and the page that comes next under the head
        self._free_ns = 0
        self._armed = False
        self._nr_writes = 0
        self.is_write_congested = False
        """bdi_write_congested: many writes wait, and whoever need not write now is not to."""

    def submit(
        self, operation: str, file: int, first: int, nr: int, finish: Callable[[], None], *, merges: bool = False
    ) -> DiskRequest:
        """Pages [first, first + nr) of a file are to be read or written: `finish` is called when they are. O(1). Counted by `operation`.

        If it `merges` and goes on where the last request ends, which has not begun yet, it becomes part of that.
        """
        if merges and (request := self._merged(operation, file, first, nr, finish)) is not None:
            self._ledger.charge(operation, nr)
            return request
        speed = self.speed
        began = max(self._now_ns, self._free_ns)
        away = 0 if self._head == (file, first) else speed.seek_ns + speed.turn_ns // 2
        self._free_ns = began + away + nr * speed.page_ns
        self._head = (file, first + nr)
        self._ledger.charge("disk_request")
        self._ledger.charge(operation, nr)
        request = DiskRequest(began, self._free_ns, operation, (file, first, nr), [finish])
        self._queue.append(request)
        if operation in WRITES:
            self._nr_writes += 1
            self.is_write_congested |= self._nr_writes >= CONGESTED_FROM
        self._arm()
        return request

    def submit_row(
        self, operation: str, file: int, first: int, pages: I64, finish: Callable[[I64], None]
    ) -> list[tuple[DiskRequest, I64]]:
        """What as many calls of submit() that merge would do, for `pages` that lie from `first` on: each request, and which pages it has. O(pages / MOST_PAGES)."""
        requests, done = [], 0
        while done < pages.size:
            room = self._room(operation, file, first + done) or MOST_PAGES  # of a new one all
            part = pages[done : done + room]
            hand = partial(finish, part)
            requests.append((self.submit(operation, file, first + done, part.size, hand, merges=True), part))
            done += part.size
        return requests

    def _room(self, operation: str, file: int, first: int) -> int:
        """How many pages from `first` on the last request could have as well; 0: none, it is full or of another kind. What has been handed in at this moment is still plugged."""
        last = self._queue[-1] if self._queue else None
        if (
            last is None
            or last.operation != operation
            or last.began_ns < self._sched.now_ns
            or self._head != (file, first)
        ):
            return 0
        return max(MOST_PAGES - last.place[2], 0)

    def _merged(self, operation: str, file: int, first: int, nr: int, finish: Callable[[], None]) -> DiskRequest | None:
        """The last request, if these pages could be added to it."""
        if nr > self._room(operation, file, first):
            return None
        last = self._queue[-1]
        _, start, length = last.place
        last.place = (file, start, length + nr)
        last.finish.append(finish)
        last.when_ns += nr * self.speed.page_ns
        self._free_ns, self._head = last.when_ns, (file, first + nr)
        return last

    def wait(self, request: DiskRequest) -> None:
        """Until it is done: the running task sleeps; without one, time passes. No spinlock may be held."""
        sched = self._sched
        while not request.done:
            if sched.current is None:
                sched.now_ns = max(sched.now_ns, request.when_ns)
                self.reap()
            else:
                request.waiters.append(sched.current)
                sched.sleep(io=True)

    def reap(self) -> None:
        """What is over by now is done, in order; who waited for it is woken."""
        now_ns = self._reaped_until_ns
        while self._queue and self._queue[0].when_ns <= now_ns:
            request = self._queue.popleft()
            if request.operation in WRITES:
                self._nr_writes -= 1
                self.is_write_congested &= self._nr_writes >= CONGESTED_TO
            for finish in request.finish:
                finish()
            request.done = True
            for entity in request.waiters:
                self._sched.wake(entity)

    def get_request_wait(self) -> None:
        """Who has handed in more writes than the queue takes sleeps until there is room; without a running task, time passes. No spinlock may be held."""
        while self._nr_writes > MOST_REQUESTS:
            self.wait(self._queue[0])

    def congestion_wait(self, timeout_ns: int) -> None:
        """blk_congestion_wait: until the next request is done, but no longer than that. The running task sleeps; without one, time passes."""
        sched = self._sched
        until = sched.now_ns + timeout_ns
        if self._queue:
            until = min(until, max(self._queue[0].when_ns, sched.now_ns))
        if sched.current is None:
            sched.now_ns = until
        else:
            sched.at(until, partial(sched.wake, sched.current))
            sched.sleep(io=True)
        self.reap()

    def settle(self) -> None:
        """All of it: as if nobody had done anything for a while. For who drives from outside."""
        while self._queue:
            self.wait(self._queue[-1])

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._queue)

    @property
    def is_due(self) -> bool:
        """Whether reap() would end anything."""
        return bool(self._queue) and self._queue[0].when_ns <= self._reaped_until_ns

    @property
    def nr_done(self) -> int:
        """Requests that are over: each was an interrupt."""
        return self._ledger.counts["disk_request"] - len(self._queue)

    def under_way(self, operation: str) -> int:
        """Pages of this kind that are. O(requests)."""
        return sum(request.place[2] for request in self._queue if request.operation == operation)

    @property
    def _now_ns(self) -> int:
        return self._sched.now_ns + self._ledger.pending_ns

    @property
    def _reaped_until_ns(self) -> int:
        return self._now_ns if self.speed == NO_TIME else self._sched.now_ns

    def _arm(self) -> None:
        """One timer at a time: for the request at the head of the queue."""
        if not self._armed and self._queue:
            self._armed = True
            self._sched.at(self._queue[0].when_ns, self._fire)

    def _fire(self) -> None:
        self._armed = False
        self.reap()
        self._arm()
