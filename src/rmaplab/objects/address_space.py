"""struct address_space: what a page of a file belongs to, as far as mapping goes.

    struct page                 address_space               vm_area_struct
    +-------------------+       +-----------------+     +--> pid 1  start 0x40000000, pgoff 0
    | mapping -----------------> | i_mmap ---------------+
    | index   7         |       +-----------------+     +--> pid 2  start 0x50000000, pgoff 4: page 7 is at 0x50003000
    | PG_anon clear     |
    +-------------------+

Its pages by index, and what a file is made of, come with the page cache.
"""

from rmaplab.objects.mm_types import VmArea


class AddressSpace:
    """`address` is what page->mapping says; `i_mmap` are the VMAs that map the file, private and shared, oldest first."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.i_mmap: list[VmArea] = []
