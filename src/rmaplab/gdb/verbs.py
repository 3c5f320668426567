"""Functions of the kernel at which a run can stop: by the kernel's names, where they are here.

    monitor break try_to_unmap      rmap/queries.py, each page of it          work goes page by page while it is asked for
    monitor break fork              mm/process.py copy_process, mm/fork.py    a call's name stands for what does it

What a kernel of the day did not have is never come to: 2.4.21 has no try_to_unmap, 2.6 no swap_out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rmaplab.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Verb:
    """Where it is: "module:name", names of methods with a dot, of the package. `by_page`: else many pages are one call. `when`, given its arguments by name, says whether this is it."""

    places: tuple[str, ...]
    by_page: bool = False
    when: Callable[[Mapping[str, Any]], bool] | None = None


def _copies(arguments: Mapping[str, Any]) -> bool:
    return bool(arguments["write"] and arguments["found"].shared)


def _fills(arguments: Mapping[str, Any]) -> bool:
    return not _copies(arguments)


def _of(*places: str, by_page: bool = False, when: Callable[[Mapping[str, Any]], bool] | None = None) -> Verb:
    return Verb(places, by_page, when)


VERBS: Mapping[str, Verb] = {
    # processes
    "fork": _of("mm.process:copy_process"),
    "copy_process": _of("mm.process:copy_process"),
    "dup_mmap": _of("mm.fork:dup_mm"),
    "copy_page_range": _of("mm.fork:_copy_burst"),
    "execve": _of("calls.task:Task.execve"),
    "exit": _of("mm.process:do_exit"),
    "do_exit": _of("mm.process:do_exit"),
    "exit_mmap": _of("mm.zap:exit_mmap"),
    "force_sig_info": _of("cpu.thread:Thread.force"),
    # address spaces
    "mmap": _of("mm.mmap:do_mmap"),
    "do_mmap_pgoff": _of("mm.mmap:do_mmap"),
    "brk": _of("mm.mmap:do_brk"),
    "munmap": _of("mm.munmap:do_munmap"),
    "do_munmap": _of("mm.munmap:do_munmap"),
    "mprotect": _of("mm.mprotect:do_mprotect"),
    "mremap": _of("mm.mremap:do_mremap", "mm.mremap_linked:mremap_linked"),
    "madvise": _of("mm.madvise:do_madvise"),
    "mlock": _of("mm.mlock:do_mlock"),
    "remap_file_pages": _of("mm.fremap:do_remap_file_pages"),
    "split_vma": _of("mm.vma:split_vma"),
    "vma_link": _of("mm.vma:link_vma"),
    "zap_page_range": _of("mm.zap:zap_page_range"),
    "unmap_page_range": _of("mm.zap:unmap_page_range"),
    "free_pgtables": _of("mm.zap:free_pgtables"),
    # faults
    "handle_mm_fault": _of("mm.fault:_handle_faults", by_page=True),
    "do_anonymous_page": _of("mm.fault:_anonymous", by_page=True, when=_fills),
    "do_wp_page": _of("mm.fault:_anonymous", by_page=True, when=_copies),
    "do_no_page": _of("mm.filemap:do_no_page", by_page=True),
    "do_swap_page": _of("mm.swap_in:do_swap_page", by_page=True),
    "do_file_page": _of("mm.nonlinear:do_file_page", by_page=True),
    # files
    "vmtruncate": _of("mm.truncate:vmtruncate"),
    "unmap_mapping_range": _of("mm.truncate:unmap_mapping_range"),
    # the reverse map
    "page_referenced": _of("rmap.queries:_referenced", by_page=True),
    "try_to_unmap": _of("rmap.queries:_unmap", by_page=True),
    # reclaim
    "wakeup_kswapd": _of("reclaim.kswapd:Kswapd.wake", "reclaim.class_kswapd:ClassKswapd.wake"),
    "balance_pgdat": _of("reclaim.kswapd:Kswapd.balance_pgdat"),
    "try_to_free_pages": _of(
        "reclaim.direct:DirectReclaim.try_to_free_pages", "reclaim.virtual:VirtualReclaim.try_to_free_pages_zone"
    ),
    "shrink_zone": _of("reclaim.direct:DirectReclaim.shrink_zone"),
    "refill_inactive_zone": _of("reclaim.shrink:Shrinker.refill_inactive_zone"),
    "shrink_cache": _of("reclaim.shrink:Shrinker.shrink_cache", "reclaim.virtual:VirtualReclaim.shrink_cache"),
    "refill_inactive": _of("reclaim.virtual:VirtualReclaim.refill_inactive"),
    "swap_out": _of("reclaim.swap_out:SwapOut.swap_out"),
    "add_to_swap": _of("reclaim.page_out:add_to_swap", "reclaim.page_out:add_all_to_swap"),
    "balance_dirty_pages": _of("reclaim.writeback:Writeback.balance_dirty_pages"),
    "out_of_memory": _of("reclaim.oom_kill:OomKiller.out_of_memory"),
    "oom_kill": _of("reclaim.oom_kill:OomKiller.oom_kill"),
    "swapoff": _of("mm.swapoff:swapoff"),
}


def find_verb(name: str) -> Verb:
    """Raises UsageError: there is none of that name."""
    if name not in VERBS:
        raise UsageError(f"no function {name}{did_you_mean(name, VERBS)}: monitor break lists them")
    return VERBS[name]
