"""shmem_getpage: what it takes to give an object in memory a page more.

                           2.4, 2.6.2               2.6.7                   6.18
    1                      the swap vector's        the swap vector's
    2                                               the promise             the page
    3                      the page                 the page                nodes of the page index
    4                      (2.6: nodes, at once     nodes, at once          the promise
                           or all over again)

The vector's pages are there before the page itself is had, and stay if it is not. No promise is ENOSPC, which is a SIGBUS in a fault. Of objects that are
charged by their size nobody asks again. (How many blocks a mount may have is not modelled: half of RAM, where the mount does not say.)

Source: 2.4.27, 2.6.2, 2.6.7 mm/shmem.c, shmem_getpage, shmem_swp_alloc; 6.18 shmem_alloc_and_add_folio, shmem_inode_acct_blocks; files.md B3, C3, F1.
"""

import numpy as np

from rmaplab.errors import NoMemory, NoSpace
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.objects.shmem import Account
from rmaplab.units import PAGE_SHIFT, page_align


def get_room(k: Kernel, file: AddressSpace, indexes: I64, *, extends: bool, zeroed: bool) -> tuple[I64, I64]:
    """(Pages, nodes of the index) for these indexes, ascending. `extends`: they may lie behind the end. May sleep. Raises as an allocation, and NoSpace, with neither."""
    rules, nr = k.rules, _nr_new(file, indexes)
    _alloc_vector(k, file, indexes, extends=extends)
    if not rules.shmem_accounts_last:
        _charge(k, file, nr)
    charged, pages = not rules.shmem_accounts_last, np.empty(0, np.int64)
    try:
        pages = k.machine.allocator.alloc(indexes.size, Gfp.HIGHUSER, zeroed=zeroed)
        _alloc_vector(k, file, indexes, extends=extends)  # somebody may have truncated
        nodes = _nodes(k, file, indexes)
        if rules.shmem_accounts_last:
            try:
                _charge(k, file, nr)
            except NoSpace:
                k.page_cache.give_back(nodes)
                raise
    except (NoMemory, NoSpace):
        k.machine.allocator.free(pages)
        if charged:
            uncharge(k, file, nr)
        raise
    return pages, nodes


def put_room(k: Kernel, file: AddressSpace, indexes: I64, pages: I64) -> None:
    """Pages for some of these are not wanted after all."""
    k.machine.allocator.free(pages)
    uncharge(k, file, _nr_new(file, indexes))


def _nr_new(file: AddressSpace, indexes: I64) -> int:
    """How many of them it has not been made with."""
    return sum(index not in file.store for index in indexes.tolist()) if file.store else indexes.size


def _nodes(k: Kernel, file: AddressSpace, indexes: I64) -> I64:
    if not k.rules.shmem_inserts_atomically:
        return k.page_cache.reserve(file, indexes)
    try:
        return k.page_cache.reserve(file, indexes, Gfp.ATOMIC)
    except NoMemory:
        pass
    try:
        return k.page_cache.reserve(file, indexes, Gfp.ATOMIC)
    except NoMemory as failure:
        raise NoMemory(f"shmem_getpage tries for ever: {failure}", waiting_helps=True) from None


def _charge(k: Kernel, file: AddressSpace, nr: int) -> None:
    """shmem_acct_block, for each of so many. Raises NoSpace."""
    if nr and file.shmem is not None and file.shmem.account is Account.PAGES and not k.vm_enough_memory(nr):
        raise NoSpace(f"{nr} pages more are not promised")


def uncharge(k: Kernel, file: AddressSpace, nr: int) -> None:
    """It has so many pages less than it was charged for."""
    if file.shmem is not None and file.shmem.account is Account.PAGES:
        k.vm_unacct_memory(nr)


def _alloc_vector(k: Kernel, file: AddressSpace, indexes: I64, *, extends: bool) -> None:
    """shmem_swp_alloc: the vector has a place for these indexes. May sleep. Raises as an allocation; what has been had stays."""
    vector = None if file.shmem is None else file.shmem.vector
    if vector is None:
        return
    if indexes.size and indexes[-1] >= vector.most:
        raise NoSpace(f"page {indexes[-1]} is beyond all that have a place in the swap vector")
    gfp = Gfp.KERNEL if k.rules.swap_vector_is_low else Gfp.HIGHUSER
    while missing := vector.missing(indexes if extends else indexes[indexes < file.nr_pages]):
        page = k.machine.allocator.alloc(1, gfp, zeroed=True)
        wanted = vector.missing(indexes if extends else indexes[indexes < file.nr_pages])
        if missing[0] in wanted:
            vector.pages[missing[0]] = int(page[0])
        else:
            k.machine.allocator.free(page)


def charge_growth(k: Kernel, file: AddressSpace, size: int, call: str) -> None:
    """The file is about to be `size` bytes long, if it is not that already: what is charged by size needs a promise. Raises SyscallError(ENOMEM)."""
    if (change := _pages_of(file, size)) > 0:
        k.charge_memory(change, call)


def uncharge_size(k: Kernel, file: AddressSpace, size: int) -> None:
    """It was promised `size` bytes, and has not as many."""
    k.vm_unacct_memory(_pages_of(file, size))


def _pages_of(file: AddressSpace, size: int) -> int:
    """How many pages more `size` bytes are than it has, if that is what it is charged for."""
    by_size = file.shmem is not None and file.shmem.account is Account.SIZE
    return (page_align(size) >> PAGE_SHIFT) - file.nr_pages if by_size else 0
