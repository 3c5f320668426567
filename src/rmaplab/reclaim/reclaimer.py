"""How a kernel makes room when a request finds no memory: what each era's class is, and how it comes to be installed.

    KernelSpec.reclaim    "rmaplab.reclaim.virtual:VirtualReclaim"    2.4: goes through address spaces, as it has no reverse map
                          "rmaplab.reclaim.kswapd:PageReclaim"        2.6.2 to 2.6.7: goes by page, through the reverse map
                          ""                                          nobody has built it: such a box says so (oom_kill.py)

Whoever boots a box that is to reclaim makes one: `spec.reclaim_class()(k, rules, out_of_memory)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.rules import ReclaimRules


class Reclaimer(ABC):
    """Installs itself as the allocator's `reclaim` hook. `out_of_memory` is told when nothing could be freed, and may raise NoMemory."""

    @abstractmethod
    def __init__(self, k: Kernel, rules: ReclaimRules, out_of_memory: Callable[[str], None]) -> None:
        """For one kernel, by its rules."""

    @abstractmethod
    def make_room(self, nr: int, order: int) -> None:
        """The slow path of an allocation of `nr` blocks of 2^order frames that may sleep; then it is tried again.

        Raises NoMemory: it cannot wait, is to be met in parts, or nothing can be had any more.
        """
