"""What a task may have: its resource limits, and who it is."""

from dataclasses import dataclass

RLIM_INFINITY = 1 << 62
STACK_LIMIT = 8 << 20  # _STK_LIM


@dataclass
class Limits:
    """What a task may have: RLIMIT_AS, _DATA, _MEMLOCK and _STACK in bytes, RLIMIT_NPROC in tasks; `may_lock` is CAP_IPC_LOCK, `uid` whose task it is.

    `nproc_exceeded` is PF_NPROC_EXCEEDED: when it became that user's, he had too many.
    """

    address_space: int = RLIM_INFINITY
    data: int = RLIM_INFINITY
    memlock: int = RLIM_INFINITY
    stack: int = STACK_LIMIT
    nproc: int = RLIM_INFINITY
    may_lock: bool = False
    uid: int = 1000
    nproc_exceeded: bool = False
