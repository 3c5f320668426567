"""How a kernel makes room when a request finds no memory: what each era's class is, and how it comes to be installed.

    KernelSpec.reclaim    "rmaplab.reclaim.virtual:VirtualReclaim"    2.4: goes through address spaces, as it has no reverse map
                          "rmaplab.reclaim.kswapd:PageReclaim"        2.6.2 to 2.6.7: goes by page, through the reverse map
                          ""                                          nobody has built it: such a box says so (oom_kill.py)

Whoever boots a box that is to reclaim makes one: `spec.reclaim_class()(k, rules, out_of_memory)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from rmaplab.errors import NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.watermarks import SWAP_CLUSTER_MAX
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.rules import ReclaimRules

SECOND = 10**9
HANG_NS = 60 * SECOND
"""If nothing could be freed for so long, whoever goes on trying hangs, and the run says so."""
GRAIN = 64  # a request for more than 1/64 of all RAM at once is met in parts


class Reclaimer(ABC):
    """Installs itself as the allocator's `reclaim` hook. `out_of_memory` is told when nothing could be freed, and may raise NoMemory."""

    k: Kernel

    @abstractmethod
    def __init__(self, k: Kernel, rules: ReclaimRules, out_of_memory: Callable[[str], None]) -> None:
        """For one kernel, by its rules."""

    @abstractmethod
    def make_room(self, nr: int, order: int) -> None:
        """The slow path of an allocation of `nr` blocks of 2^order frames that may sleep; then it is tried again.

        Raises NoMemory: it cannot wait, is to be met in parts, or nothing can be had any more.
        """

    def gfp_of_unmet(self, nr: int, order: int) -> Gfp:
        """What kind of request make_room() is to make room for. Raises NoMemory: it cannot wait, or is met in parts."""
        allocator = self.k.machine.allocator
        gfp = Gfp.HIGHUSER if allocator.unmet is None else allocator.unmet.gfp
        if gfp is Gfp.ATOMIC:
            raise NoMemory(f"{nr} blocks of order {order}, and it may not wait")
        if nr > max(SWAP_CLUSTER_MAX, allocator.totalram_pages // GRAIN):
            raise NoMemory(f"{nr} blocks of order {order} at once", waiting_helps=True)
        return gfp

    def breathe(self) -> None:
        """What was done has taken its time; others who are due go on."""
        self.k.machine.end_burst()
        self.k.machine.sched.cond_resched()
