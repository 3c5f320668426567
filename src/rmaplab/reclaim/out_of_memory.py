"""When 2.4 (with CONFIG_OOM_KILLER) and 2.6.2 to 2.6.7 believe that memory is out: some time after somebody first said so.

Reclaim calls out_of_memory() each time it has found nothing. Calls on the way, those that count with their number, and the seconds since the first:

    0 s      x               nobody has called for more than 5 s: it all begins anew
             x x x           too early
    1 s      1 2 3 ... 9     they count
             10              the kill; it all begins anew
             x x x           too early
    2 s      1 2 3 ...       they count, but the kill was not 5 s ago
    6 s      the next        another kill, if 10 have counted by then

So ten calls are wanted after the first second, and no gap of more than 5 s. While a page of swap is free, a call is as if it had not been.
Who is killed then is badness.py's; that it is done, oom_kill.py's. On a box without swap nobody reclaims here, and oom_kill.py kills at the first call.

Left out: while the victim is killed the lock of this state is free, and others may call: they are too near to that kill. How jiffies wrap.

Source: 2.4.27, 2.6.2, 2.6.7 mm/oom_kill.c, out_of_memory (reclaim.md B.4).
"""

FAILURES = 10
"""Calls that make it true."""
GAP_S = 5
"""Seconds without a call, after which nothing of what was counts; and how long a victim has to exit."""


class OutOfMemory:
    """What out_of_memory remembers, one for a machine: `first`, `last` and `lastkill` in jiffies, `count` in calls. `hz` is jiffies a second.

    It begins as if all that had been long ago. In the kernel all four are 0 then, and jiffies is far from 0 by the time that memory can be out: a
    simulated clock is not, it begins when boot is over.
    """

    def __init__(self, hz: int) -> None:
        self.hz = hz
        self.count = 0
        self.first = self.last = self.lastkill = -GAP_S * hz - 1

    def kills(self, now_jiffies: int, free_swap: int) -> bool:
        """One call, at `now_jiffies` (never before the last one) with `free_swap` pages of swap free: whether somebody is to be killed now."""
        if free_swap > 0:
            return False
        gap, self.last = now_jiffies - self.last, now_jiffies
        if gap > GAP_S * self.hz:
            self._begin(now_jiffies)
            return False
        if now_jiffies - self.first < self.hz:
            return False
        self.count += 1
        if self.count < FAILURES or now_jiffies - self.lastkill < GAP_S * self.hz:
            return False
        self.lastkill = now_jiffies
        self._begin(now_jiffies)
        return True

    def _begin(self, now_jiffies: int) -> None:
        self.first, self.count = now_jiffies, 0
