"""What differs between the reclaim of 2.6.2, 2.6.5 and 2.6.7 and is a number or a yes. Values, with their sources, are in kernels/figures_reclaim.py.

    2.6.2       each call looks at a share of a zone's inactive pages, stops when it has 32, and naps after every priority
    2.6.5-rc1   what is too little to scan is saved up, nobody stops early, naps are for those who found nothing for long
    2.6.7       how much is scanned follows from both lists, and only what one priority has freed counts

Source: reclaim.md D.1, D.3 to D.6.
"""

from dataclasses import dataclass

DEF_PRIORITY = 12
"""The first priority: a 4096th of a list."""


@dataclass(frozen=True)
class ReclaimRules:
    """One kernel's."""

    scan_is_saved_up: bool
    """What a zone is to be scanned for adds up until it is 32 pages, and then all of it is; else each call scans, at least so and so much."""
    scan_follows_both: bool
    """How many inactive pages are looked at follows from the length of both lists; how many active ones from that."""
    scan_stops_when_freed: bool
    """Enough is enough: between batches, and between zones."""
    refill_spares_mapped: bool
    """Mapped pages that are not to be taken are not looked at either; else their young bits are cleared, and then they stay."""
    priority_if_low: bool
    """A zone's temp_priority goes down only while it has less than its high mark free; else with each priority, and prev_priority at once."""
    freed_by_priority: bool
    """32 pages must come in one priority; else they add up."""
    nap_each_priority: bool
    """A nap after each priority; else only below 10, and if something was scanned."""
    writes_again_at_once: bool
    """A page that is clean after writepage, and not on its way, is freed in the same pass."""
    wakes_pdflush_by_total: bool
    """pdflush is woken when 48 pages have been scanned in all priorities; else with each, for what that has scanned."""
    pdflush_naps_at_last: bool
    """background_writeout naps before it ends; else only if the queue is congested."""
    inodes_take_turns: bool
    """An inode that is not done goes behind the others, and its pages go on where the last one ended; else it goes on being first."""
    slab_divides_first: bool
    """What is asked of slab caches is rounded down before it is multiplied."""
    slab_of_low_zones: bool
    """Slab caches shrink for low zones alone, and for who makes room himself after the nap; else for all, and at once."""
    boot_dentries: int
    """Those that nobody uses when boot is over."""
    boot_unused_inodes: int
    """Likewise."""
    boot_kernel_bytes: int
    """What boot takes for the kernel, if the box does not say how much."""
    boot_user_bytes: int
    """The same for the user land."""
    kswapd_takes_all_below: bool
    """kswapd scans all zones up to the highest that lacks something; else each zone that does, for what it lacks."""
    kswapd_last_priority: int
    """The last one that it tries."""
