"""The rules for files: what mm/rules.py is for all else, and part of it."""

from dataclasses import dataclass
from enum import IntEnum

from rmaplab.objects.shmem import Account


class FileLock(IntEnum):
    """What a file's index of VMAs changes under, by name."""

    I_SHARED_LOCK = 0
    I_SHARED_SEM = 1
    I_MMAP_LOCK = 2
    I_MMAP_MUTEX = 3
    I_MMAP_RWSEM = 4


class FileMerging(IntEnum):
    """When VMAs of the same open file become one."""

    NEVER = 0
    MMAP = 1
    """In mmap alone."""
    ALWAYS = 2


class DriverPages(IntEnum):
    """What the reverse map makes of a page that a driver's nopage has returned, and that names no file."""

    AS_FILE = 0
    """What it makes of a file's."""
    AS_ANON = 1
    """It is anonymous (SetPageAnon): on a chain, where anonymous pages are."""
    BY_VMA = 2
    """It is not told of what VMAs with VM_RESERVED map."""
    BY_PAGE = 3
    """It is not told of such pages."""


class Populate(IntEnum):
    """What MAP_POPULATE brings in."""

    NO_PROT = 0
    """Pages of a shared file, if nobody may access them: remap_file_pages was given a protection that it refuses, but for none."""
    SHARED = 1
    """Pages of a shared file."""
    ALL = 2


class Readahead(IntEnum):
    """Who decides what is read ahead (mm/readahead.py)."""

    POSITION = 0
    """Where the last read ended."""
    TWO_WINDOWS = 1
    """One that is being read, and one ahead of it."""
    ON_DEMAND = 2
    """What is missing, and a mark on a page that was read ahead."""


class AheadWindow(IntEnum):
    """When the second of two windows is read."""

    AT_ONCE = 0
    """When something of the first one is asked for."""
    LAST_PAGE = 1
    """Where all is read in order, or with the last page of the first one."""
    IN_ORDER = 2
    """Where all is read in order."""


class Around(IntEnum):
    """What a fault reads of a file besides its page."""

    BLOCK = 0
    """The block that it lies in: up to the file's end, and that of the mapping where faults_mind_mapping."""
    FROM_PAGE = 1
    """From that page on."""
    MIDDLE = 2
    """With that page in the middle."""


class RemapPages(IntEnum):
    """What remap_file_pages does (mm/fremap.py)."""

    UNKNOWN = 0
    """ENOSYS."""
    ENTRIES = 1
    """It writes entries, each for any page of the file, and the VMA is nonlinear."""
    MMAP = 2
    """It maps the range anew."""


@dataclass(frozen=True)
class FileRules:
    """One kernel's rules for files and devices."""

    # -- cache/page_cache.py, mm/open_file.py ----------------------------------------------------------------------------
    radix_node_bytes: int
    """Of a node of a file's page index; 0 if that is a hash and has none."""
    radix_tree_shrinks: bool
    """The index gets lower when pages go; otherwise it does when the last one has gone."""
    inode_bytes: int
    """Without what a file system adds."""
    inodes_are_aligned: bool
    """To cache lines."""
    file_bytes: int
    no_file_is_enfile: bool
    """open(2) says ENFILE where there is no memory for a struct file; otherwise ENOMEM."""
    rw_end_may_not_wrap: bool
    """Reads and writes whose end is no offset any more are EINVAL, before anything is done."""
    disk_file_bytes: int
    """The longest that a file on a disk may be."""

    # -- filemap.py, truncate.py, file_io.py -----------------------------------------------------------------------------
    dirty_is_accounted: bool
    """The first write to a shared page of a file on a disk is noticed: until then its entries are read-only."""
    tables_before_files: bool
    """A fault makes its leaf table before it asks the file for the page, and leaves it where there is none; otherwise the tables above alone."""
    fault_around_pages: int
    """Pages that a read fault maps at once, if they are in the cache; 0 if it maps its own alone."""
    fault_compares_truncate_count: bool
    """A fault begins again if its file has been cut since it looked for its page."""
    fault_locks_page: bool
    """A fault holds the lock of the file's page until it has mapped it; whoever truncates unmaps what it finds mapped under that lock."""
    cow_allocates_first: bool
    """A write to a private mapping prepares its VMA and takes a page before it asks for the file's; so there beyond its end too."""
    nopage_reads: int
    """How often a fault reads a page that readahead could not read."""
    waiting_is_major: bool
    """A fault whose page is in the cache, and is still being read, counts as a major one."""
    readahead: Readahead
    ahead_window: AheadWindow
    fault_reads_around: Around
    fault_block_pages: int
    """Pages of such a block."""
    fault_drops_lock_to_read: bool
    """A fault that has waited for its page begins again: so a read maps what is around it."""
    truncate_unmaps_twice: bool
    """Before the pages leave the cache, and after: for private copies that a fault has made meanwhile."""
    extending_zeroes_tail: bool
    """What a mapping has written behind a file's end is gone when the file grows over it."""
    msync_walks_entries: bool
    """msync looks for dirty entries, in its range alone; else write-out finds a page's entries."""
    mincore_reads_entries: bool
    """What has an entry is in memory, and the page cache is asked where there is none; else the cache alone."""
    pgoff_wrap_is_eoverflow: bool
    """A page offset that wraps; otherwise EINVAL."""
    file_size_limits_mappings: bool
    """No mapping reaches beyond the largest size that a file may have (EOVERFLOW)."""
    shared_validate_known: bool
    """MAP_SHARED_VALIDATE: flags that are not known are refused (EOPNOTSUPP)."""
    populate_dirties_shared: bool
    """What is faulted in for a task of a shared mapping that it may write to is written to."""

    # -- shmem.py --------------------------------------------------------------------------------------------------------
    tmpfs_account: Account
    """What a file of tmpfs is charged for; and an object that is not charged by its size, if that is pages."""
    shmem_accounts_last: bool
    """A page is charged when it is in the cache already; otherwise before it is allocated."""
    shmem_inserts_atomically: bool
    """It comes into the cache under a spinlock: nodes of the index must be had at once, and all is tried again where they cannot."""
    shmem_unuse_is_uptodate: bool
    """A page of shared memory that swapoff could not read counts as read, with what its frame had; else it is zeros when somebody comes."""
    memfd_flags: int
    """The MFD_ bits that memfd_create knows; 0: it is not there."""
    seals_known: int
    """The F_SEAL_ bits; 0: fcntl knows none."""
    readers_may_become_writers: bool
    """Whoever maps it shared stands in the way of F_SEAL_WRITE, even if he may never write (i_mmap_writable)."""
    fallocate_known: bool
    punch_loses_copies: bool
    """Where a hole is made in a file, private copies go with its pages; otherwise they stay."""
    remove_needs_write: bool
    """MADV_REMOVE is for who may write; otherwise for who could become one who may."""
    swap_vector: bool
    """Each inode has one; without it a page's place in swap is where the page was."""
    swap_vector_is_low: bool
    """Its pages lie in low memory; otherwise they need not."""
    shared_anon_minds_noreserve: bool
    """Shared memory of MAP_NORESERVE is not charged by its size."""
    dev_zero_is_filled: bool
    """A private mapping of /dev/zero shows the zero page everywhere when mmap returns."""
    shared_anon_keeps_pgoff: bool
    """Shared memory without a file begins at the page that the caller names; otherwise at its first one."""
    shmem_makes_inode_first: bool
    """The inode of such memory comes before its struct file."""

    # -- fremap.py, nonlinear.py -----------------------------------------------------------------------------------------
    remap_pages: RemapPages
    nonlinear_apart: bool
    """A nonlinear VMA leaves its file's index for a list beside it (i_mmap_nonlinear)."""
    remap_minds_cursor: bool
    """Where reclaim has left a cursor in a VMA, remap_file_pages takes it for a driver's and says EINVAL."""
    remap_minds_mlock: bool
    """remap_file_pages is for those who may lock memory."""
    dontneed_keeps_nonlinear: bool
    """MADV_DONTNEED leaves file entries where a nonlinear VMA does not show what a fault would bring; otherwise nothing."""
    truncate_misses_nonlinear: bool
    """Whoever truncates looks at the linear places of a file's VMAs alone: what a nonlinear one has elsewhere stays mapped, and is nobody's."""

    # -- driver.py, driver_video.py --------------------------------------------------------------------------------------
    driver_pages: DriverPages
    nopage_is_checked: bool
    """do_no_page BUGs where a page of a VMA without VM_RESERVED names no file, or is reserved."""
    sigbus_is_checked: bool
    """And it does so before it asks whether there is a page at all."""
    videobuf_is_reserved: bool
    """The driver of TV cards sets VM_RESERVED."""
    remap_vm_flags: int
    """The vm_flags that remap_page_range sets."""
