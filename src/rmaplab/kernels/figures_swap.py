"""Swap areas since 2.4: the fields of mm/swap_rules.py. The facts: reclaim.md F.7 to F.12."""

from rmaplab.kernels.history import History, since

SWAP: dict[str, History] = {
    "swap_uses_last_page": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/swapfile.c, sys_swapon: maxpages is last_page, and a limit"),
        since("2.6.34", 1, "2.6.34 mm/swapfile.c, sys_swapon: last_page + 1"),
    ),
    "swap_in_needs_uptodate": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/memory.c, do_swap_page: wait_on_page, lock_page, and no PageUptodate"),
        since("2.6.34", 1, "2.6.34 mm/memory.c, do_swap_page: VM_FAULT_SIGBUS; not in 2.6.12-rc2 yet"),
    ),
    "swap_write_error_redirties": (
        since("2.4", 0, "2.4.27 mm/page_io.c; 2.6.2, 2.6.7 end_swap_bio_write: SetPageError, end_page_writeback"),
        since(
            "2.6.34",
            1,
            "2.6.34 mm/page_io.c, end_swap_bio_write: set_page_dirty, ClearPageReclaim; not in 2.6.12-rc2 yet",
        ),
    ),
    "swapoff_is_charged": (
        since("2.4", 0, "2.4.27 mm/swapfile.c, sys_swapoff: nobody asks"),
        since(
            "2.6", 1, "a5500c9097, April 2003; 2.6.2 mm/swapfile.c, sys_swapoff: security_vm_enough_memory(p->pages)"
        ),
    ),
    "oom_kills_swapoff": (
        since("2.4", 0, "2.4.27 mm/oom_kill.c, select_bad_process: it is like others"),
        since("2.6", 1, "640fe6e482, April 2003; 2.6.2 mm/oom_kill.c, select_bad_process: PF_SWAPOFF"),
    ),
    "has_cryptoloop": (
        since("2.4", 0, "from memory: crypto/ and cryptoloop came with 2.4.22"),
        since("2.6", 1, "75c84d7725, July 2003; 2.6.2, 2.6.7 drivers/block/cryptoloop.c"),
        since(
            "6.18", 1, "drivers/md/dm-crypt.c, crypt_iv_plain_ops; cryptoloop itself is no option of 6.18.44 any more"
        ),
    ),
    "has_loop_fish2": (
        since("2.4", 0, "2.6.2, 2.6.7 drivers/block/: no such file; of 2.4 from memory: SuSE's alone had it"),
        since("2.6.34", 1, "2.6.34 drivers/md/dm-crypt.c, crypt_iv_null_ops; not in 2.6.12-rc2 yet"),
    ),
}
