"""A running kernel: the machine, the rules it goes by, its reverse map, and what it keeps for the whole system.

The functions of mm/ take it as their first argument `k`, where C code would reach for globals.
"""

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import numpy as np

from rmaplab.cache.page_cache import PageCache
from rmaplab.cache.swap import Swap
from rmaplab.errors import KernelBug, NoMemory, SyscallError
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import Batch
from rmaplab.machine.frames import PG_REFERENCED
from rmaplab.machine.locks import Lock, LockClasses
from rmaplab.machine.machine import Machine
from rmaplab.machine.radix_tree import RadixTree
from rmaplab.mm.file_rules import FileLock
from rmaplab.mm.overcommit import Overcommit, OvercommitMode, Request
from rmaplab.mm.pagevec import LruAdd
from rmaplab.mm.rules import Rules
from rmaplab.objects.flags import VM_ACCOUNT
from rmaplab.objects.ipc import ShmIds
from rmaplab.objects.mm_list import MmList
from rmaplab.objects.mm_types import AddressSpace, File, MmStruct, Range, VmaIndex
from rmaplab.objects.shmem import Account, ShmemInfo, SwapVector
from rmaplab.objects.task import TaskStruct
from rmaplab.rmap.pages import Rmap
from rmaplab.rmap.protocol import ReverseMap
from rmaplab.rmap.walk_rules import WalkRules
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

MM_LOCKS: LockClasses = (
    ("mmap_sem", True, False),
    ("shm_ids", True, False),
    ("vma_lock", True, False),
    ("PG_locked", True, False),
    ("mmlist_lock", False, False),
    ("page_table_lock", False, True),  # fork: the child's, then the parent's
)
"""The locks of mm/ in order. Source: eras.md 9."""
FILE_LOCKS: dict[FileLock, tuple[str, bool, bool]] = {
    FileLock.I_SHARED_LOCK: ("i_shared_lock", False, False),
    FileLock.I_SHARED_SEM: ("i_shared_sem", True, False),
    FileLock.I_MMAP_LOCK: ("i_mmap_lock", False, False),
    FileLock.I_MMAP_MUTEX: ("i_mmap_mutex", True, False),
    FileLock.I_MMAP_RWSEM: ("i_mmap_rwsem", True, False),
}
"""A file's, which its index of VMAs changes under: before page_table_lock, and before an anon_vma_rwsem. Source: 2.6.2 and 6.18 mm/rmap.c, mm/filemap.c."""


def lock_order(design: type[ReverseMap], file_lock: FileLock) -> LockClasses:
    """All locks in order: those that a walk holds while it waits for a page_table_lock come before that, the design's others after it."""
    return (*MM_LOCKS[:-1], FILE_LOCKS[file_lock], *design.outer_lock_classes, MM_LOCKS[-1], *design.lock_classes)


BURST_TABLES = 32  # leaf tables a burst of work covers at most, unless a kernel is told otherwise


class PageHolder(Protocol):
    """Who has references to pages besides page tables: a page's count is the sum of its holders."""

    def references(self) -> I64:
        """The PFNs, one for each reference."""


class Kernel:
    """Everything a system call needs. One per boot. `make_index` makes a file's index of VMAs, which is `vma_index_bytes` larger in each than the kernel's own."""

    def __init__(
        self,
        machine: Machine,
        rules: Rules,
        design: ReverseMap,
        walks: WalkRules,
        make_index: Callable[[], VmaIndex],
        vma_index_bytes: int,
        *,
        overcommit: OvercommitMode = OvercommitMode.HEURISTIC,
        overcommit_ratio: int = 50,
    ) -> None:
        self.machine, self.rules, self.design = machine, rules, design
        dies, shared = rules.anon_mapping_dies_at_free, rules.file_lock is FileLock.I_MMAP_RWSEM
        self.rmap = Rmap(design, walks, owner_dies_at_free=dies, file_lock_is_shared=shared)
        self._make_index = make_index
        self.splits_under_page_table_lock = rules.split_holds_page_table_lock and not design.outer_lock_classes
        """A later design whose locks come before page_table_lock rules that out on an older kernel."""
        machine.locks_tables = rules.table_locks
        self.this_cpu = machine.sched.this_cpu
        paging = machine.paging
        # where there is no task_struct cache, the task lies at the foot of its kernel stack
        task_bytes = rules.task_struct_bytes
        self.task_cache = machine.cache("task_struct", task_bytes, hwcache_align=True) if task_bytes else None
        self.sighand_cache = machine.cache("sighand_cache", rules.sighand_bytes)
        mm_bytes = rules.mm_struct_bytes + design.mm_bytes(paging)
        self.mm_cache = machine.cache("mm_struct", mm_bytes, hwcache_align=True)
        vma_bytes = rules.vm_area_struct_bytes + vma_index_bytes + design.vma_bytes(paging)
        self.vma_cache = machine.cache("vm_area_struct", vma_bytes)
        pgd_in_slab = paging.pgd_bytes < 4096
        self.pgd_cache = machine.cache("pgd", paging.pgd_bytes, hwcache_align=True) if pgd_in_slab else None
        self.tables_at_birth = paging.tables_at_birth if pgd_in_slab else 1
        """Page-table frames of an address space below whose top table nothing hangs: it has no entry."""
        self.stack_order = (rules.thread_stack_bytes // 4096 - 1).bit_length()
        self.mmlist_lock = machine.locks.new("mmlist_lock")
        self.mms: dict[int, MmStruct] = {}  # by the address of the mm_struct
        self.tasks: dict[int, TaskStruct] = {}
        self.tasks_of_user: Counter[int] = Counter()  # user_struct->processes, zombies among them
        self.last_pid = 0
        self.overcommit = Overcommit(
            rules,
            overcommit,
            overcommit_ratio,
            machine.allocator.totalram_pages,
            machine.swap_pages,
            machine.allocator.nr_free,
        )
        self.driven: TaskStruct | None = None  # who has called last from outside of any program
        self.commit_requests: list[Request] | None = None  # if a list, it is kept of every request
        self.committed_pages = 0
        self.committed_drift = 0  # pages uncharged once too often (see Rules.fork_failure_uncharges_twice)
        self.nr_processes = 0  # ever made
        self.nr_alive = self.nr_alive_peak = 0  # not yet exited: now, and at most
        self._make_lru()
        if rules.small_allocations_fail and not machine.swap_pages:
            machine.allocator.reclaim = _nothing_can_be_reclaimed
        self.swap = self._make_swap()
        self._make_files()
        self.holders: list[PageHolder] = [self.lru_add, self.swap, self.page_cache]
        self.set_burst(BURST_TABLES)

    def set_burst(self, tables: int) -> None:
        """A burst of work covers so many leaf tables at most: how finely those who act at once take turns. To be said before anything runs."""
        self.burst_tables = tables
        self.burst_bytes = tables * self.machine.paging.leaf_span
        self._batches: list[Batch] = []

    def _make_swap(self) -> Swap:
        """Without an area."""
        self.swapoff_runs = self.swapoff_is_killed = False
        machine, redirties = self.machine, self.rules.swap_write_error_redirties
        where = machine.ram, machine.frames, machine.encoding, machine.disk, machine.ledger
        return Swap(*where, write_error_redirties=redirties)

    def _make_lru(self) -> None:
        machine, rules = self.machine, self.rules
        self.mmlist = MmList()
        lists = machine.allocator.lru if rules.lru_lists else None
        allocator, size, active = machine.allocator, rules.pagevec_size, rules.new_pages_are_active
        where, files = (allocator, machine.ledger, machine.hardware.cpus), rules.lru_has_files
        self.lru_add = LruAdd(*where, size, lists, active=active, has_files=files, has_shmem=rules.lru_has_shmem)
        self.new_anon_flags = PG_REFERENCED if rules.lru_lists and rules.new_anon_is_referenced else 0
        """What a page has that is touched for the first time: do_anonymous_page, mark_page_accessed."""

    def _make_files(self) -> None:
        machine, rules = self.machine, self.rules
        nodes = machine.cache("radix_tree_node", rules.radix_node_bytes) if rules.radix_node_bytes else None
        self.inode_cache = machine.cache("inode_cache", rules.inode_bytes, hwcache_align=rules.inodes_are_aligned)
        self.file_cache = machine.cache("filp", rules.file_bytes, hwcache_align=True)
        self.dev_zero: AddressSpace | None = None
        self.shm = ShmIds(machine.locks.new("shm_ids"), in_turn=rules.ipc_ids_in_turn)
        self.shmid_cache = machine.cache("shmid_kernel", rules.shmid_kernel_bytes, hwcache_align=True)
        attach = rules.shm_file_data_bytes
        self.shm_file_data_cache = machine.cache("shm_file_data", attach, hwcache_align=True) if attach else None
        self.open_files: dict[int, File] = {}  # by the address of the struct file
        files = self.rmap.files
        self.page_cache = PageCache(machine.ram, machine.frames, files, self._make_space, nodes, machine.disk)
        self.page_cache.has_converted = self.design.converts

    def _make_space(self, on_disk: bool) -> AddressSpace:
        address = self.inode_cache.alloc()
        lock = self.machine.locks.new(FILE_LOCKS[self.rules.file_lock][0], f"file {address}")
        pages = RadixTree(self.page_cache.nodes, shrinks=self.rules.radix_tree_shrinks)
        space = AddressSpace(address, self._make_index(), lock, pages, on_disk=on_disk)
        space.on_lru = self.lru_add.has_files if on_disk else self.lru_add.has_shmem
        if not on_disk:
            account = self.rules.tmpfs_account if self.rules.commit_is_accounted else Account.NOTHING
            entries = PAGE_SIZE // self.machine.paging.word_bytes
            space.shmem = ShmemInfo(account, vector=SwapVector(entries) if self.rules.swap_vector else None)
        return space

    def new_file(self, data: bytes = b"", size: int = 0, *, on_disk: bool = True) -> AddressSpace:
        """A file that has been there before: PageCache.new_file, and what it is charged for. Raises as an allocation."""
        file = self.page_cache.new_file(data, size, on_disk=on_disk)
        self.committed_pages += file.nr_charged
        return file

    def batch(self) -> Batch:
        """A batch for what one burst meets: `with k.batch() as batch`. From a pool, so that whoever sleeps keeps his own."""
        if self._batches:
            return self._batches.pop()
        paging = self.machine.paging
        return Batch(self.burst_tables << paging.bits, paging.entry_bytes, self._batches)

    def lock_entries(self, mm: MmStruct) -> None:
        """page_table_lock, for as long as a call changes entries; where tables have locks of their own, each burst takes its first table's."""
        if not self.machine.locks_tables:
            self.machine.locks.take(mm.page_table_lock)

    def unlock_entries(self, mm: MmStruct) -> None:
        """It is done."""
        if not self.machine.locks_tables:
            self.machine.locks.drop(mm.page_table_lock)

    def lock_burst(self, mm: MmStruct, address: int) -> Lock | None:
        """A burst that begins at `address` begins, within lock_entries: what it drops at its end."""
        if not self.machine.locks_tables:
            return None
        lock = self.machine.pte_lock(mm, address)
        self.machine.locks.take(lock)
        return lock

    def burst_start(self, end: int) -> int:
        """Where a burst that ends at `end` begins, for work that allocates and goes downwards."""
        if self.machine.allocator.fail_after is not None or self.machine.watched:
            return end - PAGE_SIZE
        return (end - 1) // self.burst_bytes * self.burst_bytes

    def burst_end(self, address: int, end: int) -> int:
        """Where the burst of work that begins at `address` ends: a bounded number of leaf tables, never beyond `end`.

        A page, if somebody watches (System.watch).
        """
        if self.machine.watched:
            return min(end, address + PAGE_SIZE)
        return min(end, (address // self.burst_bytes + 1) * self.burst_bytes)

    def burst_over(self, mm: MmStruct, address: int, end: int) -> int:
        """As burst_end; but a burst that begins where nothing hangs on the top table goes on to where something does (pgd_none): it meets no table.

        Programs reserve terabytes: a burst for every 64 MiB of them would take seconds of ours.
        """
        stop, span = self.burst_end(address, end), self.machine.paging.top_span
        if end - address <= span or span <= self.burst_bytes or self.machine.watched:
            return stop
        top = mm.pgd // self.machine.paging.entry_bytes
        used = np.flatnonzero(self.machine.words[top + address // span : top + -(-end // span)])
        if not used.size:
            return end
        return min(end, (address // span + int(used[0])) * span) if used[0] else stop

    def alloc_burst_end(self, address: int, end: int) -> int:
        """As burst_end, for work that allocates.

        With the failure injector armed a burst is one page, so that requests come in the order of the kernel's own.
        """
        if self.machine.allocator.fail_after is not None:
            return min(end, address + PAGE_SIZE)
        return self.burst_end(address, end)

    @property
    def current(self) -> TaskStruct | None:
        """Whose call this is. None: nobody has called yet."""
        running = self.machine.sched.current
        return running if isinstance(running, TaskStruct) else self.driven

    def vm_enough_memory(self, nr_pages: int) -> bool:
        """Charge `nr_pages` if this box's overcommit rule allows it (overcommit.py)."""
        return self._charge(self._request(nr_pages))

    def charge_memory(self, nr_pages: int, call: str) -> None:
        """The same for a call that fails. Raises SyscallError(ENOMEM), with the rule that has refused."""
        request = self._request(nr_pages)
        if not self._charge(request):
            raise SyscallError(errno.ENOMEM, call, self.overcommit.refusal(request))

    def may_promise(self, nr_pages: int, call: str) -> None:
        """Whether somebody with CAP_SYS_ADMIN could be promised so much; nothing is charged. Raises SyscallError(ENOMEM)."""
        request = self._request(nr_pages)._replace(root=True)
        if not self.overcommit.allows(request):
            raise SyscallError(errno.ENOMEM, call, self.overcommit.refusal(request))

    def count_swap(self) -> None:
        """An area has come or gone: what may be promised follows."""
        self.machine.swap_pages = self.swap.promised
        self.overcommit = replace(self.overcommit, swap=self.swap.promised)

    def _charge(self, request: Request) -> bool:
        if self.commit_requests is not None:
            self.commit_requests.append(request)
        if not self.overcommit.allows(request):
            return False
        if self.rules.commit_is_accounted:
            self.committed_pages += request.nr_pages
        return True

    def _request(self, nr_pages: int) -> Request:
        task = self.current
        root = task is not None and task.limits.uid == 0
        total_vm = task.mm.total_vm if task is not None and task.mm is not None else 0
        swapped = self.swap.nr_used - len(self.swap.cached)
        return Request(nr_pages, self.machine.allocator.nr_free, self.committed_pages, total_vm, root, swapped)

    def vm_unacct_memory(self, nr_pages: int) -> None:
        """Take a charge back, where it was kept."""
        if self.rules.commit_is_accounted:
            self.committed_pages -= nr_pages

    def check(self) -> None:
        """Counters for the whole system are what the objects say. Raises KernelBug."""
        charged = sum(v.nr_pages for mm in self.mms.values() for v in mm.vmas if v.flags & VM_ACCOUNT)
        charged += sum(file.nr_charged for file in self.page_cache.files.values())
        if self.committed_pages != charged - self.committed_drift:
            raise KernelBug("vm_committed_space", f"{self.committed_pages} pages, VMAs and objects say {charged}")
        self._check_inodes()
        if +self.tasks_of_user != Counter(task.limits.uid for task in self.tasks.values()):
            raise KernelBug("user_struct", f"{+self.tasks_of_user} tasks by user, and it is not so")
        counts = {
            self.sighand_cache: self.nr_alive - sum(len(task.threads) for task in self.tasks.values()),
            self.mm_cache: len(self.mms),
            self.vma_cache: sum(mm.map_count for mm in self.mms.values()),
            self.inode_cache: len(self.page_cache.files),
            self.file_cache: len(self.open_files),
        }
        if self.task_cache is not None:
            counts[self.task_cache] = len(self.tasks)
        if self.page_cache.nodes is not None:
            counts[self.page_cache.nodes] = sum(file.pages.nr_nodes for file in self.page_cache.files.values())
        for cache, nr in counts.items():
            if cache.nr_objects != nr:
                raise KernelBug("slabinfo", f"{cache.nr_objects} {cache.name} objects, {nr} in use")

    def _check_inodes(self) -> None:
        """Open files are counted where they lead to, and what has no name and is not open is not there."""
        opens = Counter(file.mapping.address for file in self.open_files.values())
        for file in self.page_cache.files.values():
            if file.opens != opens[file.address]:
                raise KernelBug(
                    "iput", f"file {file.address} says {file.opens} open files, there are {opens[file.address]}"
                )
            if not file.named and not file.opens:
                raise KernelBug("iput", f"nobody can reach file {file.address}")
        if stray := opens.keys() - self.page_cache.files.keys():
            raise KernelBug("iput", f"open files of inodes that have gone: {stray}")


def halves(start: int, end: int) -> tuple[Range, Range]:
    """The two parts of a burst for which memory was short. So all before the page that cannot be had gets done, and nothing after it."""
    middle = start + ((end - start) >> (PAGE_SHIFT + 1) << PAGE_SHIFT)
    return (start, middle), (middle, end)


@contextmanager
def null_is_fine() -> Iterator[None]:
    """For what is only tried: if the allocator returns NULL, it stays undone."""
    try:
        yield
    except NoMemory as failure:
        if failure.waiting_helps:
            raise


def _nothing_can_be_reclaimed(nr: int, order: int) -> None:
    """Only anonymous memory and no swap: a kernel that gives up then returns NULL."""
    raise NoMemory(f"{nr} blocks of order {order}, and nothing can be reclaimed")
