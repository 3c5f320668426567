"""Sleeping in a system call: who waits stands in queues, and goes on when one of them is woken, a time has come, or a signal wants it.

    reader: sleep(pipe.reader.changed)             writer: pipe.reader.changed.wake()
              |                                      |
              sched.sleep() ... others run ... <-----+

Source: 2.6.2 include/linux/wait.h; kernel/signal.c (ERESTARTSYS).
"""

from typing import Protocol


class Interrupted(Exception):
    """A signal wants the thread. With `again` the call may be made again where the signal's handler says so (ERESTARTSYS), else it ends with EINTR."""

    def __init__(self, *, again: bool = True) -> None:
        super().__init__()
        self.again = again


ALL = 0xFFFF_FFFF
"""Bits of a futex (FUTEX_BITSET_MATCH_ANY)."""


class WaitQueue:
    """Threads that wait for the same thing, first come first."""

    def __init__(self) -> None:
        self.sleepers: dict[Sleeper, None] = {}

    def wake(self, nr: int = -1, bits: int = ALL) -> int:
        """The first `nr` threads go on of those that wait for one of `bits`, or all of them: how many there were."""
        chosen = [thread for thread in self.sleepers if bits == ALL or thread.wake_bits & bits]
        chosen = chosen if nr < 0 else chosen[:nr]
        for thread in chosen:
            del self.sleepers[thread]
            thread.wake()
        return len(chosen)


class Sleeper(Protocol):
    """A thread, as far as open files know it."""

    wake_bits: int
    """Which bits it waits for, at a futex."""

    def sleep(self, *queues: WaitQueue, until_ns: int | None = None) -> bool:
        """Until one of the queues is woken: True; or until `until_ns` of simulated time: False. Raises Interrupted."""

    def wake(self) -> None:
        """It goes on."""

    def stands_in(self, queue: WaitQueue) -> None:
        """It waits in another queue from now on, too."""

    def send_self(self, signal: int) -> None:
        """A signal to itself, such as SIGPIPE."""

    def waits_for_host(self, fd: int) -> None:
        """It is about to read from a descriptor of the host, which stops the machine until there is something."""
