"""pdflush: threads that write what has been dirty for long, or when there is much of it, so that nobody has to.

    every 5 s                    wb_kupdate            inodes that have been dirty for 30 s
    above the background ratio   background_writeout   until it is below
    try_to_free_pages            background_writeout   at least as many pages as were scanned (wakeup_bdflush)

    pdflush_operation: an idle thread is woken with it; none is idle: dropped, and the timer tries again a second later

There are two. More of them (Linux has up to eight) would find the one disk taken (writeback_acquire) and go back to sleep. Each runs as a task of its own, beside kswapd (kswapd.py), on a CPU
of its own if one is idle; whoever drives a machine from outside has no scheduler that would run it: there nobody comes.

Nobody is woken while no inode is dirty: he would find nothing. So a run without dirty files is as it would be without pdflush. The timer likewise is set when the first page becomes dirty, for the next full 5 seconds
since boot. It is not waited for: a run ends with its last program, and what is dirty then stays so.

Left out: sync_supers; laptop_mode; that pdflush is fewer or more as work comes.

Source: 2.6.2 and 2.6.7 mm/pdflush.c, __pdflush, pdflush_operation; mm/page-writeback.c, background_writeout, wb_kupdate, wb_timer_fn, wakeup_bdflush; reclaim.md D.8.
"""

from collections.abc import Callable

from rmaplab.machine.sched import Scheduler
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.kthread import KernelThread
from rmaplab.reclaim.reclaimer import SECOND
from rmaplab.reclaim.writeback import Writeback, WritebackControl

NR_THREADS = 2  # MIN_PDFLUSH_THREADS
MAX_WRITEBACK_PAGES = 1024
WRITEBACK_NS, EXPIRE_NS = 5 * SECOND, 30 * SECOND
"""dirty_writeback_centisecs, dirty_expire_centisecs."""


class PdflushThread:
    """One of them, with what it has to do. `idle` are those that have nothing."""

    def __init__(self, sched: Scheduler, idle: list["PdflushThread"]) -> None:
        self._sched, self._idle = sched, idle
        self.thread = KernelThread(sched, self._run, name="pdflush")
        self.work: Callable[[], None] = _nothing

    def _run(self) -> None:
        while True:
            self.work()
            self._idle.append(self)
            self._sched.sleep()


class Pdflush:
    """All of them, and the timer."""

    def __init__(self, writeback: Writeback) -> None:
        self.writeback = writeback
        self.k: Kernel = writeback.k
        self.idle: list[PdflushThread] = []
        """Those that sleep: who went last is woken first."""
        self.idle += [PdflushThread(self.k.machine.sched, self.idle) for _ in range(NR_THREADS)]
        self._due_ns = -1
        writeback.wake_background = lambda: self.start_background(0)
        writeback.inode_is_dirty = self._set_timer

    def wakeup_bdflush(self, nr_pages: int) -> None:
        """Somebody who makes room has scanned so many pages: as many are to be written, all if that is 0."""
        if self.writeback.any_dirty:
            self.start_background(nr_pages or self.writeback.nr_dirty)

    def start_background(self, min_pages: int) -> None:
        """pdflush_operation(background_writeout), from within a task."""
        if self.k.machine.sched.current is not None:
            self.operation(lambda: self.background_writeout(min_pages))

    def operation(self, work: Callable[[], None]) -> bool:
        """pdflush_operation: whether somebody was idle and does it. While run() lasts."""
        if not self.idle:
            return False
        thread = self.idle.pop()
        thread.work = work
        thread.thread.wake()
        return True

    # -- what they do -----------------------------------------------------------------------------------------------------

    def background_writeout(self, min_pages: int) -> None:
        """Until no more than the background ratio is dirty, and at least `min_pages` are written."""
        while True:
            now = self.writeback.state()
            if now.nr_dirty < now.background and min_pages <= 0:
                return
            control = self._write(None)
            min_pages -= MAX_WRITEBACK_PAGES - control.nr_to_write
            if control.nr_to_write > 0:
                if control.encountered_congestion or self.writeback.rules.pdflush_naps_at_last:
                    self._nap()
                if not control.encountered_congestion:
                    return

    def wb_kupdate(self) -> None:
        """What has been dirty for long; then the timer is set for the next time."""
        sched = self.k.machine.sched
        start_ns, left = sched.now_ns, self.writeback.nr_dirty + len(self.k.page_cache.files)
        while left > 0:
            control = self._write(start_ns - EXPIRE_NS)
            if control.nr_to_write > 0:
                if not control.encountered_congestion:
                    break
                self._nap()
            left -= MAX_WRITEBACK_PAGES - control.nr_to_write
        if self.writeback.any_dirty:
            self._arm(max(start_ns + WRITEBACK_NS, sched.now_ns + SECOND))

    def _write(self, older_than_ns: int | None) -> WritebackControl:
        control = WritebackControl(
            MAX_WRITEBACK_PAGES, older_than_ns, nonblocking=True, for_kupdate=older_than_ns is not None, by_pdflush=True
        )
        self.writeback.writeback_inodes(control)
        self.k.machine.end_burst()
        return control

    def _nap(self) -> None:
        self.k.machine.disk.congestion_wait(SECOND // 10)

    # -- the timer --------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Some inode is dirty: wb_timer goes on as it has since boot."""
        now_ns = self.k.machine.sched.now_ns
        if self._due_ns < now_ns:
            self._arm((now_ns // WRITEBACK_NS + 1) * WRITEBACK_NS)

    def _arm(self, when_ns: int) -> None:
        self._due_ns = when_ns
        self.k.machine.sched.at(when_ns, self._fire, watches=True)

    def _fire(self) -> None:
        """wb_timer_fn."""
        now_ns = self.k.machine.sched.now_ns
        if now_ns < self._due_ns or not self.writeback.any_dirty:
            return
        if not self.operation(self.wb_kupdate):
            self._arm(now_ns + SECOND)


def _nothing() -> None:
    """Nobody has asked for anything."""
