"""Whom 2.4 and 2.6.2 to 2.6.7 kill when memory is out: who has mapped most, and has worked and lived least.

    total_vm / root of CPU time / root of the root of its age      x 2 if nice, / 4 if privileged, / 4 again with CAP_SYS_RAWIO
               in units of 8 s    in units of 17 min

Whole numbers after every step, in this order. The units are those of HZ 1000: 2^13 and 2^20 jiffies; at HZ 100 2^10 and 2^17, that is 10 s
and 22 min. 2.6.34 adds half of each child's; since 2.6.36 it is another rule (oom_kill.py).

Source: 2.4.27, 2.6.2, 2.6.7 mm/oom_kill.c, badness, select_bad_process; 2.6.2 lib/int_sqrt.c (62784ab211, December 2003);
include/linux/timex.h, SHIFT_HZ (reclaim.md B.4).
"""

from collections.abc import Callable, Iterable
from math import isqrt

USER = 1000
"""Anybody's uid who is not root."""


def rough_root(x: int) -> int:
    """2.4's idea of a square root, 1 at least: right for some, 3 of 16, 7 of 63 and 6 of 64.

    x is halved for every time that it can be divided by four before it is 0 or 1; if 1 is left, a quarter of that is taken away.
    """
    rest, halvings = x, 0
    while rest > 1:
        rest //= 4
        halvings += 1
    root = x >> halvings
    if rest:
        root -= root // 4
    return max(root, 1)


def shift_hz(hz: int) -> int:
    """SHIFT_HZ: the power of two that is nearest to `hz`, for 12 to 1535 ticks a second; half way between two, the greater."""
    return (hz // 3).bit_length() + 1


def badness(
    total_vm: int | None,
    cpu_time: int = 0,
    run_time: int = 0,
    *,
    hz: int,
    root: Callable[[int], int] = isqrt,
    nice: int = 0,
    uid: int = USER,
    euid: int = USER,
    sys_admin: bool = False,
    sys_rawio: bool = False,
    memdie: bool = False,
) -> int:
    """The points of a task that has mapped `total_vm` pages; None is one without an address space, and has none, nor has a victim (`memdie`).

    `cpu_time` (user and system) and `run_time` (since its birth) are in jiffies, of which there are `hz` a second. `root` is the square root
    of the day: isqrt in 2.6, rough_root in 2.4. `sys_admin` and `sys_rawio` say which of these capabilities are effective.
    """
    if total_vm is None or memdie:
        return 0
    points = total_vm
    shift = shift_hz(hz)
    points //= root(cpu_time >> shift + 3) or 1  # 2.6 divides by none that is 0
    points //= root(root(run_time >> shift + 10)) or 1
    if nice > 0:
        points *= 2
    if sys_admin or uid == 0 or euid == 0:
        points //= 4
    if sys_rawio:
        points //= 4
    return points


def select_bad_process(tasks: Iterable[tuple[int, int, bool]]) -> int | None:
    """The pid of the victim, of (pid, points, PF_SWAPOFF) in the order of the task list: the first of those with most points; None if nobody has any.

    pid 0 is nobody's. Who runs swapoff is chosen as soon as he is met, whatever his points: 2.6 only (2.4 has no such flag: say False).
    """
    chosen, most = None, 0
    for pid, points, swapoff in tasks:
        if pid == 0:
            continue
        if swapoff:
            return pid
        if points > most:
            chosen, most = pid, points
    return chosen
