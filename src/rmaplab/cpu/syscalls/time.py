"""Time: the clock of the simulated machine, which began at userland.epoch_ns.

Source: 6.18 kernel/time/posix-timers.c, hrtimer.c, itimer.c; include/uapi/linux/time.h.
"""

import errno

from rmaplab.cpu.abi import NS, int32
from rmaplab.cpu.pending import SignalInfo
from rmaplab.cpu.process import Process
from rmaplab.cpu.signals import SIGALRM
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.syscalls.timespec import US, get_timespec, put_timespec
from rmaplab.cpu.thread import Thread
from rmaplab.cpu.waiting import Interrupted, WaitQueue
from rmaplab.errors import SyscallError

REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU, RAW, REALTIME_COARSE, MONOTONIC_COARSE, BOOTTIME = range(8)
TIMER_ABSTIME = 1
ITIMER_REAL = 0
USER_HZ = 100


def _times(process: Process) -> tuple[int, int]:
    """Time of all its threads, in ns, those that have ended among them: user's and the kernel's. O(threads)."""
    tasks = [other.task for other in process.threads]
    user, system = sum(task.user_ns for task in tasks), sum(task.system_ns for task in tasks)
    return user + process.user_ns, system + process.system_ns


def now(thread: Thread, clock: int) -> int:
    """What a clock shows, in ns. Raises SyscallError(EINVAL)."""
    thread.spend()
    ns = thread.machine.sched.now_ns
    if clock in (REALTIME, REALTIME_COARSE):
        return thread.userland.epoch_ns + ns
    if clock in (MONOTONIC, RAW, MONOTONIC_COARSE, BOOTTIME):
        return ns
    if clock == THREAD_CPU:
        return thread.task.user_ns + thread.task.system_ns
    if clock == PROCESS_CPU:
        return sum(_times(thread.process))
    raise SyscallError(errno.EINVAL, "clock_gettime")


@call("clock_gettime")
def sys_clock_gettime(thread: Thread, clock: int, place: int, *_: int) -> int:
    """clock_gettime(2)."""
    put_timespec(thread, place, now(thread, int32(clock)), thread.abi.word)
    return 0


@call("clock_gettime64", abi=32)
def sys_clock_gettime64(thread: Thread, clock: int, place: int, *_: int) -> int:
    """clock_gettime(2) with times of 64 bits."""
    put_timespec(thread, place, now(thread, int32(clock)), 8)
    return 0


def _getres(thread: Thread, clock: int, place: int, width: int) -> int:
    now(thread, int32(clock))
    if place:
        put_timespec(thread, place, 1, width)
    return 0


@call("clock_getres")
def sys_clock_getres(thread: Thread, clock: int, place: int, *_: int) -> int:
    """clock_getres(2)."""
    return _getres(thread, clock, place, thread.abi.word)


@call("clock_getres_time64", abi=32)
def sys_clock_getres64(thread: Thread, clock: int, place: int, *_: int) -> int:
    """clock_getres(2) with times of 64 bits."""
    return _getres(thread, clock, place, 8)


@call("gettimeofday")
def sys_gettimeofday(thread: Thread, place: int, zone: int, *_: int) -> int:
    """gettimeofday(2)."""
    if place:
        thread.put(place, thread.abi.timeval(now(thread, REALTIME)))
    if zone:
        thread.put(zone, bytes(8))
    return 0


@call("time")
def sys_time(thread: Thread, place: int, *_: int) -> int:
    """time(2)."""
    seconds = now(thread, REALTIME) // NS
    if place:
        thread.put(place, thread.abi.words(seconds))
    return seconds


def _sleep(thread: Thread, until: int, remaining: int, width: int) -> int:
    try:
        thread.sleep(WaitQueue(), until_ns=until, again=False)
    except Interrupted:
        if remaining:
            put_timespec(thread, remaining, max(until - thread.machine.sched.now_ns, 0), width)
        raise
    return 0


@call("nanosleep")
def sys_nanosleep(thread: Thread, wanted: int, remaining: int, *_: int) -> int:
    """nanosleep(2)."""
    ns = get_timespec(thread, wanted, thread.abi.word)
    return _sleep(thread, now(thread, MONOTONIC) + ns, remaining, thread.abi.word)


def _clock_nanosleep(thread: Thread, clock: int, flags: int, wanted: int, remaining: int, width: int) -> int:
    ns, at = get_timespec(thread, wanted, width), now(thread, int32(clock))
    delay = ns - at if flags & TIMER_ABSTIME else ns
    return _sleep(thread, thread.machine.sched.now_ns + delay, 0 if flags & TIMER_ABSTIME else remaining, width)


@call("clock_nanosleep")
def sys_clock_nanosleep(thread: Thread, clock: int, flags: int, wanted: int, remaining: int, *_: int) -> int:
    """clock_nanosleep(2)."""
    return _clock_nanosleep(thread, clock, flags, wanted, remaining, thread.abi.word)


@call("clock_nanosleep_time64", abi=32)
def sys_clock_nanosleep64(thread: Thread, clock: int, flags: int, wanted: int, remaining: int, *_: int) -> int:
    """clock_nanosleep(2) with times of 64 bits."""
    return _clock_nanosleep(thread, clock, flags, wanted, remaining, 8)


# -- alarms --------------------------------------------------------------------------------------------------------------


def _set_alarm(thread: Thread, ns: int, interval_ns: int) -> tuple[int, int]:
    """ITIMER_REAL: (what was left, its interval)."""
    process, sched = thread.process, thread.machine.sched
    left = max(process.alarm_ns - now(thread, MONOTONIC), 0) if process.alarm_ns else 0
    was, process.alarm_interval_ns = process.alarm_interval_ns, interval_ns
    if process.alarm is not None:
        process.alarm.cancel()
    process.alarm_taken = None
    process.alarm_ns = sched.now_ns + ns if ns else 0
    if ns:
        _arm(thread, process)
    return left, was


def _arm(thread: Thread, process: Process) -> None:
    """An interval begins again when its signal is taken (posixtimer_rearm_itimer): who does not take it costs nothing."""

    def again() -> None:
        now_ns, every = thread.machine.sched.now_ns, process.alarm_interval_ns
        if every:
            process.alarm_ns += (max(now_ns - process.alarm_ns, 0) // every + 1) * every
            _arm(thread, process)
        else:
            process.alarm_ns = 0

    def rings() -> None:
        thread.userland.time_has_passed()
        process.alarm_taken = again
        thread.userland.send(process, SignalInfo(SIGALRM, 0x80))

    process.alarm_taken = None
    process.alarm = thread.machine.sched.at(process.alarm_ns, rings)


@call("alarm")
def sys_alarm(thread: Thread, seconds: int, *_: int) -> int:
    """alarm(2)."""
    left, _interval = _set_alarm(thread, (seconds & 0xFFFF_FFFF) * NS, 0)
    return -(-left // NS)


@call("setitimer")
def sys_setitimer(thread: Thread, which: int, new: int, old: int, *_: int) -> int:
    """setitimer(2), of real time."""
    if which != ITIMER_REAL:
        raise SyscallError(errno.EINVAL, "setitimer")
    every, every_us, first, first_us = (thread.abi.signed(word) for word in thread.words(new, 4)) if new else (0,) * 4
    if min(every, first) < 0 or not all(0 <= us < NS // US for us in (every_us, first_us)):
        raise SyscallError(errno.EINVAL, "setitimer")
    left, was = _set_alarm(thread, first * NS + first_us * US, every * NS + every_us * US)
    if old:
        thread.put(old, thread.abi.timeval(was) + thread.abi.timeval(left))
    return 0


@call("getitimer")
def sys_getitimer(thread: Thread, which: int, place: int, *_: int) -> int:
    """getitimer(2), of real time."""
    process = thread.process
    left = max(process.alarm_ns - now(thread, MONOTONIC), 0) if process.alarm_ns else 0
    if which != ITIMER_REAL:
        raise SyscallError(errno.EINVAL, "getitimer")
    thread.put(place, thread.abi.timeval(process.alarm_interval_ns) + thread.abi.timeval(left))
    return 0


@call("times")
def sys_times(thread: Thread, place: int, *_: int) -> int:
    """times(2)."""
    ticks, process = now(thread, MONOTONIC) * USER_HZ // NS, thread.process
    if place:
        values = (*_times(process), process.children_user_ns, process.children_system_ns)
        thread.put(place, thread.abi.words(*(ns * USER_HZ // NS for ns in values)))
    return ticks


@call("getrusage")
def sys_getrusage(thread: Thread, who: int, place: int, *_: int) -> int:
    """getrusage(2): times, and page faults."""
    thread.spend()
    process = thread.process
    if int32(who) == -1:
        user, system, faults = process.children_user_ns, process.children_system_ns, 0
    elif int32(who) in (0, 1):
        user, system = _times(process) if int32(who) == 0 else (thread.task.user_ns, thread.task.system_ns)
        faults = process.min_faults
    else:
        raise SyscallError(errno.EINVAL, "getrusage")
    thread.put(
        place, thread.abi.timeval(user) + thread.abi.timeval(system) + thread.abi.words(0, 0, 0, 0, faults, *(0,) * 9)
    )
    return 0
