"""Timers of the simulated machine: what is to be done at some time, by nobody in particular.

    timer = sched.at(when_ns, action)      the machine runs on until it has gone off, or nobody waits for it any more
    timer.cancel()                         it does not go off, and is not waited for

One that only watches is dropped when nothing else is to come.
"""

from collections.abc import Callable


def nothing(*_: object) -> None:
    """It is time to look, or nobody cares."""


class Waited:
    """How many timers a machine waits for."""

    nr = 0


class Timer:
    """One. One that only `watches` is not waited for."""

    def __init__(self, action: Callable[[], None], waited: Waited, *, watches: bool) -> None:
        self.action, self.watches = action, watches
        self._waited = waited
        waited.nr += not watches

    def leave(self) -> None:
        """It is not waited for any more."""
        self._waited.nr -= not self.watches
        self.watches = True

    def cancel(self) -> None:
        """It does not go off. Nothing happens if it has."""
        self.leave()
        self.action = nothing
