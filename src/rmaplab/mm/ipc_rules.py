"""The rules for System V shared memory: part of mm/rules.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IpcRules:
    """One kernel's rules for segments, by what reads them: mm/ipc_shm.py, objects/ipc.py."""

    shmid_kernel_bytes: int
    """Of a segment's own record."""
    shm_file_data_bytes: int
    """Each attach has an open file of its own, which carries so much; 0 if all attaches share the segment's, which may be written through."""
    shm_max_bytes: int
    """The longest segment."""
    shm_max_pages: int
    """Pages of all segments together."""
    shm_max_ids: int
    shm_reaches_max_pages: bool
    """All segments together may have that many pages; otherwise one less."""
    ipc_ids_in_turn: bool
    """A new id takes the slot after the last one's, and another sequence number when slots begin again; otherwise the lowest free slot, and
    always another number."""
    ipc_removed_is_eidrm: bool
    """An id whose slot has somebody else by now; otherwise EINVAL, as where it is empty."""
    shm_noreserve_known: bool
    shm_exec_known: bool
    shmat_minds_stack: bool
    """No segment ends within five pages below the stack, unless it may replace what is there."""
    shmat_refuses_wrap: bool
    """A place that reaches beyond all addresses is EINVAL; otherwise it is mmap's to refuse."""
    shmat_remaps_nil: bool
    """SHM_REMAP at an address that SHM_RND has rounded to 0."""
    shmdt_takes_all: bool
    """It detaches every part that would lie so if its segment began at the address; otherwise the first one, and others of that segment's length."""
    shmdt_rounds_down: bool
    """An address that is no page's means the next page's; otherwise EINVAL."""
    shmdt_forgets_part_page: bool
    """Others have to end within the segment's bytes; otherwise within its pages."""
    shmdt_minds_file: bool
    """Others have to be of the same attach."""
    shm_lock_needs_capability: bool
    """SHM_LOCK; otherwise the owner may, up to RLIMIT_MEMLOCK."""
