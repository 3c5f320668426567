"""shmem_inode_info: what an inode has more whose pages live in memory and nowhere else: those of tmpfs, of memfds, of shared memory."""

from dataclasses import dataclass
from enum import IntEnum


class Account(IntEnum):
    """What overcommit has promised for such an object."""

    NOTHING = 0
    SIZE = 1
    """All of it, whether or not it has its pages yet."""
    PAGES = 2
    """The pages that it has."""


@dataclass(slots=True)
class ShmemInfo:
    """`account`: what it is charged for. `locked`: its pages are not for reclaim (SHM_LOCK)."""

    account: Account = Account.NOTHING
    locked: bool = False
