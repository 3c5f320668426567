"""struct page of any PFN, read in the running kernel: which anon_vma or file its folio belongs to, where in it, how often it is mapped.

    PFN --x size of struct page + vmemmap--> struct page
                                              | compound_head & 1? then this is a tail: the head is there
                                              v
                                             folio: mapping   anon_vma | 1, address_space, or a KSM node | 3
                                                    index     the page's offset in it, pages
                                                    mapcount  entries that map this page

The array of struct pages (vmemmap) begins elsewhere at every boot. We find it once: a memfd of one page is mapped, its file's
i_pages then holds the folio itself, and /proc/self/pagemap says which PFN that is. Memory is read 16,384 addresses at a time
by bpf/peek.bpf.c. PFNs need CAP_SYS_ADMIN beside CAP_BPF and CAP_PERFMON.
Sources: include/linux/mm_types.h; mm/util.c, folio_mapping; include/linux/mm.h, folio_precise_page_mapcount.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rmaplab.host.bpf.btf import kernel_btf
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.bpf.loader import Iterator
from rmaplab.host.closing import Closing
from rmaplab.host.vmas import VmaDumper
from rmaplab.machine.arrays import I64, Bools

MAPPING_ANON, MAPPING_FLAGS = 1, 3
_PFN = (1 << 55) - 1
_WORDS = 8
_REQUEST_WORDS = 2 + _WORDS


class Folios(NamedTuple):
    """By PFN: the head of its folio, folio->mapping as it stands, the page's own index, how many entries map the page, and the folio's pages.

    `known` is False where there is no struct page (a hole in memory); the other columns are 0 there. `pages` is 0 for a large folio where
    this kernel does not say.
    """

    head: I64
    mapping: I64
    pgoff: I64
    mapcount: I64
    pages: I64
    known: Bools

    @property
    def anon_vma(self) -> I64:
        """The pointer to the anon_vma of anonymous pages, 0 for others (KSM pages among them)."""
        return np.where(self.mapping & MAPPING_FLAGS == MAPPING_ANON, self.mapping & ~MAPPING_FLAGS, 0)


class PagePeeker(Closing):
    """Reads kernel memory, and struct pages by PFN. A context manager. Raises BpfUnavailable; PFNs also need CAP_SYS_ADMIN.

    `dumper` says where a file of ours is in the kernel's memory, once.
    """

    def __init__(self, dumper: VmaDumper) -> None:
        self._iterator = Iterator("peek", over_map="requests")
        definition = self._iterator.definitions["requests"]
        self._at_once = definition.max_entries
        self._memory = mmap.mmap(self._iterator.maps["requests"], definition.max_entries * definition.value_bytes)
        self._requests: I64 = np.frombuffer(self._memory, np.int64).reshape(-1, _REQUEST_WORDS)
        try:
            self._find_fields()
            self.vmemmap = self._find_vmemmap(dumper)
        except BaseException:
            self.close()
            raise

    def _find_fields(self) -> None:
        btf = kernel_btf()
        self._page_bytes = btf.size_of("page") or 0
        self._compound_head = btf.offset("page", "compound_head") // 8
        self._flags = btf.offset("folio", "flags") // 8
        self._mapping = btf.offset("folio", "mapping") // 8
        self._index = btf.offset("folio", "index") // 8
        self._mapcount = btf.offset("folio", "_mapcount")
        self._entire_mapcount = btf.offset("folio", "_entire_mapcount")
        nr_pages = btf.locate("folio", "_nr_pages") or btf.locate("folio", "_folio_nr_pages")  # renamed in Linux 6.15
        self._nr_pages = None if nr_pages is None else nr_pages[0]
        self.head_flag = 1 << btf.enumerator("pageflags", "PG_head")
        if self._page_bytes != 8 * _WORDS:
            raise BpfUnavailable(f"struct page has {self._page_bytes} bytes here, and 64 is what we can read")

    def close(self) -> None:
        """Let go of the program and its map."""
        self._requests = np.empty((0, _REQUEST_WORDS), np.int64)
        self._memory.close()
        self._iterator.close()

    def peek(self, addresses: I64) -> tuple[I64, Bools]:
        """64 bytes at each address, as rows of 8 words; and where there was memory to read. O(addresses), 16,384 in a millisecond."""
        words = np.zeros((len(addresses), _WORDS), np.int64)
        good = np.zeros(len(addresses), np.bool_)
        for begin in range(0, len(addresses), self._at_once):
            now = addresses[begin : begin + self._at_once]
            asked = self._requests[: len(now)]
            asked[:] = 0
            asked[:, 0] = now
            self._requests[len(now) :, 0] = 0
            self._iterator.read()
            good[begin : begin + len(now)] = asked[:, 1] == 0
            words[begin : begin + len(now)] = asked[:, 2:]
        words[~good] = 0
        return words, good

    def _find_vmemmap(self, dumper: VmaDumper) -> int:
        """The address of struct page 0."""
        memfd = os.memfd_create("rmaplab-vmemmap")
        try:
            os.ftruncate(memfd, mmap.PAGESIZE)
            with mmap.mmap(memfd, mmap.PAGESIZE) as page:
                page[0] = 1
                inode = os.fstat(memfd).st_ino
                files = dumper.files_of(os.getpid())
                address = np.frombuffer(page, np.uint8).ctypes.data
                pfn = _pfn_of(address)
                xa_head = kernel_btf().offset("address_space", "i_pages", "xa_head")
                for mapping in files[files[:, 2] == inode, 0]:
                    (folio, *_), _ = self.peek(np.array([mapping + xa_head]))
                    at = int(folio[0]) - pfn * self._page_bytes
                    (there, *_), _ = self.peek(np.array([at + pfn * self._page_bytes]))
                    if there[self._mapping] == mapping:
                        return at
        finally:
            os.close(memfd)
        raise BpfUnavailable("the kernel's array of struct pages could not be found (CONFIG_SPARSEMEM_VMEMMAP)")

    def look(self, pfns: I64) -> Folios:
        """The folio of each PFN. O(PFNs)."""
        at = self.vmemmap + pfns * self._page_bytes
        pages, known = self.peek(at)
        tail = pages[:, self._compound_head] & 1 == 1
        head_at = np.where(tail, pages[:, self._compound_head] & ~1, at)
        heads = pages.copy()
        if tail.any():
            heads[tail], found = self.peek(head_at[tail])
            known[tail] &= found
        mapcount = _signed_half(pages, self._mapcount) + 1
        mapcount[mapcount < 0] = 0  # a page_type is kept there: the page is not mapped
        large = tail | (heads[:, self._flags] & self.head_flag != 0)
        nr_pages = np.ones(len(pfns), np.int64)
        if large.any():
            second, _ = self.peek(head_at[large] + self._page_bytes)
            mapcount[large] += _signed_half(second, self._entire_mapcount - self._page_bytes) + 1
            of_head = self._nr_pages is not None and self._nr_pages - self._page_bytes
            nr_pages[large] = 0 if of_head is False else _signed_half(second, of_head)
        head = (head_at - self.vmemmap) // self._page_bytes
        pgoff = heads[:, self._index] + (pfns - head)
        zero = np.where(known, 1, 0)
        return Folios(
            head * zero, heads[:, self._mapping] * zero, pgoff * zero, mapcount * zero, nr_pages * zero, known
        )


def _signed_half(rows: I64, offset: int) -> I64:
    return np.ascontiguousarray(rows).view(np.int32)[:, offset // 4].astype(np.int64)


def _pfn_of(address: int) -> int:
    """Of a page of our own. Raises BpfUnavailable without CAP_SYS_ADMIN."""
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            pagemap.seek(address // mmap.PAGESIZE * 8)
            (entry,) = struct.unpack("<Q", pagemap.read(8))
    except OSError as error:
        raise BpfUnavailable(f"/proc/self/pagemap cannot be read ({error.strerror})") from None
    if not entry & _PFN:
        raise BpfUnavailable("page frame numbers are hidden from us: they need CAP_SYS_ADMIN (run as root)")
    return int(entry & _PFN)
