"""Price lists: what an operation takes, in nanoseconds of simulated time.

    published seconds of level 6 --- rmaplab fit ---> parameters (prices_2004.json)
                                                          |  shares
    figures from elsewhere (GIVEN) ----------------------(+)----> ns per operation, for each kernel's software

A price is whole nanoseconds, and time is counted in Python ints, so the same inputs give the same time to the last digit on
any machine. What belongs to the hardware has one price for all kernels. What belongs to the software has one for each line
of development (`KernelSpec.software`: "2.4", "2.6"). What no figure of level 6 can separate stays joined in one parameter,
and its split over operations is stated here (`Parameter.shares`).

`MODELS` are the ways to price a pte_chain that `rmaplab fit` compares. The one that is used is "line"; docs/time.md says why.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from importlib.resources import files
from types import MappingProxyType

from rmaplab.errors import UsageError
from rmaplab.machine.ledger import PriceList

ONE, HALF = Fraction(1), Fraction(1, 2)


@dataclass(frozen=True)
class Given:
    """A price that is not fitted: nanoseconds, and where they come from."""

    ns: int
    source: str


_LMBENCH = (
    "estimate; history: lmbench fork + exit + wait of a small process, its entries and faults included, is 403 to 435 us on a "
    "1.8 GHz Pentium 4 (Hugh Dickins, LKML, 2003-03-24)"
)
_SMALL = "estimate: some cache lines; together below 0.1 % of any figure of forkbench"
_NONE = "estimate; forkbench has none"
_TABLE = "estimate: 4 KiB zeroed at 1 to 2 GB/s; one per 512 entries, so forkbench cannot tell it from the entries"
_RECLAIM = "believed: cache lines at some 100 ns; no figure of 2004 tells, forkbench has none"
_BIO = "believed: a page's way through the block layer, its interrupt included; no figure of 2004 tells, forkbench has none"
_TWOFISH = (
    "believed: 4096 bytes at 18 cycles a byte and 2.5 GHz, the key set up before. Published are 16.1 cycles a byte on a Pentium Pro, in assembler (Schneier et al., The Twofish Encryption "
    "Algorithm, 1999, table 5.1); the kernel's is C, and of a Pentium 4 nothing was found"
)
_LINE = "estimate: one line fetched from another CPU's cache"

GIVEN: Mapping[str, Given] = MappingProxyType(
    {
        "fork": Given(60_000, _LMBENCH),
        "exit": Given(40_000, _LMBENCH),
        "mm_alloc": Given(4000, _SMALL),
        "mm_free": Given(2000, _SMALL),
        "syscall": Given(500, "estimate: int 0x80 and back on a Pentium 4"),
        "table_alloc": Given(3000, _TABLE),
        "table_free": Given(300, _SMALL),
        "page_free": Given(300, _SMALL),
        "vma_alloc": Given(400, _SMALL),
        "vma_copy": Given(500, _SMALL),
        "vma_split": Given(800, _NONE),
        "vma_merge": Given(300, _NONE),
        "pte_protect": Given(100, _NONE),
        "pte_move": Given(400, _NONE),
        "mremap_move": Given(1000, _NONE),
        "anon_vma_alloc": Given(150, _SMALL),
        "anon_vma_link": Given(250, _LINE),
        "anonmm_alloc": Given(150, _SMALL),
        "pgscan": Given(300, _RECLAIM),
        "pgrefill": Given(300, _RECLAIM),
        "vma_visit": Given(100, _RECLAIM),
        "mm_visit": Given(100, _RECLAIM),
        "chain_slot_visit": Given(100, _RECLAIM),
        "table_walk": Given(200, _RECLAIM),
        "add_to_swap": Given(500, _RECLAIM),
        "pte_unmap": Given(300, _RECLAIM),
        "swap_in": Given(1500, _RECLAIM),
        "swap_read": Given(3000, _BIO),
        "swap_write": Given(3000, _BIO),
        "twofish_page": Given(30_000, _TWOFISH),
        "mmlist_lock_held": Given(250, _LINE),
        "anon_vma_lock_held": Given(250, _LINE),
    }
)


@dataclass(frozen=True)
class Parameter:
    """What is fitted as one number of nanoseconds: operations and their shares of it.

    `software` is the kernels it belongs to; None is the hardware's, or a design's, and the same for all.
    """

    name: str
    shares: Mapping[str, Fraction]
    about: str
    software: str | None = None


TOUCH = Parameter(
    "touch",
    {"page_touch": ONE},
    "hardware: a byte read in user mode, 4 KiB after the last one: TLB miss, table walk, accessed bit, cache miss",
)
FAULT = Parameter(
    "fault",
    {"anon_fault": ONE, "cow_copy": ONE, "zero_fault": Fraction(1, 3), "cow_reuse": Fraction(1, 3)},
    "hardware for the most part: an anonymous page faulted in and zeroed; the other faults' shares are estimates",
)


def _entry(software: str) -> Parameter:
    return Parameter(
        f"entry {software}",
        {"pte_copy": HALF, "pte_zap": HALF},
        "an entry's life: copied by fork, torn down by exit, its page's count and page lock; half each is an assumption",
        software,
    )


ENTRY_2_4, ENTRY_2_6 = _entry("2.4"), _entry("2.6")


@dataclass(frozen=True)
class Model:
    """A way to price things: the parameters to fit."""

    name: str
    about: str
    parameters: tuple[Parameter, ...]


def _chain(name: str, about: str, *operations: str) -> Model:
    chain = Parameter(f"chain {name}", dict.fromkeys(operations, ONE), f"pte_chain: {about}")
    return Model(name, about, (TOUCH, FAULT, ENTRY_2_4, ENTRY_2_6, chain))


MODELS = {
    model.name: model
    for model in (
        _chain("line", "each cache line touched: searched by a removal, written by an insertion", "chain_line_visit", "chain_add"),
        _chain("search", "each cache line searched by a removal; insertions are free", "chain_line_visit"),
        _chain("block", "each block taken from the slab or given back", "chain_block_alloc", "chain_block_free"),
        _chain("slot", "each slot searched by a removal", "chain_slot_search"),
        _chain("constant", "one price per entry, however many share the page", "chain_add"),
    )
}  # fmt: skip
CHOSEN, NULL = "line", "constant"


@dataclass(frozen=True)
class PriceBook:
    """A model with its parameters in nanoseconds: a price list for every kernel."""

    name: str
    model: Model
    parameters_ns: Mapping[str, int]

    def price_list(self, software: str) -> PriceList:
        """The prices under a kernel's software. Made once for each."""
        if software not in self._lists:
            self._lists[software] = self._price_list(software)
        return self._lists[software]

    @cached_property
    def _lists(self) -> dict[str, PriceList]:
        return {}

    def _price_list(self, software: str) -> PriceList:
        ns = {operation: given.ns for operation, given in GIVEN.items()}
        for parameter in self.model.parameters:
            if parameter.software in (None, software):
                for operation, share in parameter.shares.items():
                    ns[operation] = round(self.parameters_ns[parameter.name] * share)
        return PriceList(self.name, f"rmaplab fit: {self.model.about}; level 6 of the announcement", ns)


@cache
def price_books() -> dict[str, PriceBook]:
    """All stored books by name, as `rmaplab fit --save` wrote them."""
    stored = json.loads((files("rmaplab.kernels") / "prices_2004.json").read_text(encoding="utf-8"))
    return {name: PriceBook(name, MODELS[book["model"]], book["parameters_ns"]) for name, book in stored.items()}


def find_prices(name: str) -> PriceBook:
    """The book called `name`. Raises UsageError with the names there are."""
    books = price_books()
    if name not in books:
        raise UsageError(f"no price list {name!r}: choose from {', '.join(books)} (see: rmaplab fit)")
    return books[name]


def book_name(*, siblings: bool, model: str = CHOSEN) -> str:
    """What a stored book is called: by the box it was fitted on, and by the model if that is not the chosen one."""
    return "2004" + ("-ht" if siblings else "") + ("" if model == CHOSEN else f"-{model}")
