"""Signals that have been sent and have not come yet: of a thread, or of its whole process.

    an ordinary one    is there once, however often it is sent
    SIGRTMIN ...       each that is sent comes, in order, with what came with it

Source: 6.18 kernel/signal.c, __send_signal_locked, legacy_queue, collect_signal.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

SIGRTMIN = 32
MOST_QUEUED = 10_000
"""RLIMIT_SIGPENDING, of each signal: more are one with the last."""


@dataclass(frozen=True)
class SignalInfo:
    """What a signal is about: its number, si_code, and what comes with that."""

    number: int
    code: int = 0
    pid: int = 0
    address: int = 0
    status: int = 0
    value: int = 0


class PendingSignals:
    """By number. True if there are any."""

    def __init__(self) -> None:
        self._sent: dict[int, deque[SignalInfo]] = {}

    def __bool__(self) -> bool:
        return bool(self._sent)

    def __iter__(self) -> Iterator[int]:
        return iter(self._sent)

    def add(self, info: SignalInfo) -> None:
        """One is sent."""
        queue = self._sent.setdefault(info.number, deque())
        if not queue or (info.number >= SIGRTMIN and len(queue) < MOST_QUEUED):
            queue.append(info)

    def put_first(self, info: SignalInfo) -> None:
        """One that does not wait behind others of its number."""
        self._sent.setdefault(info.number, deque()).appendleft(info)

    def take(self, number: int) -> SignalInfo:
        """The first of a number that is there."""
        queue = self._sent[number]
        info = queue.popleft()
        if not queue:
            del self._sent[number]
        return info

    def discard(self, number: int) -> None:
        """None of a number is there any more."""
        self._sent.pop(number, None)
