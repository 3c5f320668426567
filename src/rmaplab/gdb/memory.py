"""What gdb reads and writes: bytes of simulated RAM, where a task's page tables say they are. Nothing is faulted in, no entry gets a bit.

    task 3   40000000  ->  entry  ->  frame 12300        there: its bytes
             40001000  ->  swap entry, or none           not there: an error, and it stays so
             40002000  ->  none, of a file's code        what the file has there: gdb reads code before it is first run, to find where a function's frame stands

What is read-only is written to all the same if the frame is that entry's alone, as a kernel's debugger may; where others map it too, that would be theirs as well,
and is refused.
"""

from rmaplab.errors import DiskError, UsageError
from rmaplab.machine.entries import PFN_MASK, PRESENT, RW
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_EXEC, VM_NONLINEAR
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


def find_frame(k: Kernel, mm: MmStruct | None, address: int) -> int:
    """The frame that an address is in, or -1: it is not there."""
    if mm is None or not mm.pgd or not 0 <= address < k.machine.paging.task_size:
        return -1
    entry = int(lookup(*k.machine.geometry, mm.pgd, address)[0])
    pfn = entry >> PAGE_SHIFT & PFN_MASK
    return pfn if entry & PRESENT and pfn < k.machine.frames.nr else -1


def read(k: Kernel, mm: MmStruct | None, address: int, length: int) -> bytes:
    """Up to the first page that is not there, neither in a frame nor in a file. O(pages log VMAs)."""
    parts, end = list[bytes](), address + length
    while address < end:
        pfn, first = find_frame(k, mm, address), address & PAGE_SIZE - 1
        wanted = slice(first, min(PAGE_SIZE, first + end - address))
        part = k.machine.ram.bytes[pfn, wanted].tobytes() if pfn >= 0 else _in_file(k, mm, address)[wanted]
        if not part:
            break
        parts.append(part)
        address += len(part)
    return b"".join(parts)


def _in_file(k: Kernel, mm: MmStruct | None, address: int) -> bytes:
    """The page of a file that a first access would find there; empty: there is none, or what was there is elsewhere."""
    vma = mm.find_vma(address) if mm is not None and mm.pgd else None
    if mm is None or vma is None or vma.start > address or vma.file is None:
        return b""
    if vma.flags & VM_NONLINEAR or not vma.flags & VM_EXEC:
        return b""
    file, index = vma.file.mapping, vma.pgoff + (address - vma.start >> PAGE_SHIFT)
    if int(lookup(*k.machine.geometry, mm.pgd, address)[0]) or file.driver is not None or index >= file.nr_pages:
        return b""
    if index in file.pages:
        return bytes(k.machine.ram.bytes[file.pages[index]].tobytes())
    ledger, before = k.machine.ledger, k.machine.ledger.snapshot()
    try:
        return file.store.get(index, b"").ljust(PAGE_SIZE, b"\0") if file.on_disk else b""
    except DiskError:
        return b""
    finally:
        ledger.restore(before)  # a store may count what goes through it


def read_physical(k: Kernel, place: int, length: int) -> bytes:
    """Bytes of RAM, up to its end."""
    whole = k.machine.ram.bytes.reshape(-1)
    return bytes(whole[max(place, 0) : max(place, 0) + length].tobytes()) if place >= 0 else b""


def write(k: Kernel, mm: MmStruct | None, address: int, data: bytes) -> None:
    """All of it, or nothing. Raises UsageError: some of it is not there, or not that task's alone to write."""
    pieces, done = list[tuple[int, int, bytes]](), 0
    while done < len(data):
        pfn, first = find_frame(k, mm, address + done), address + done & PAGE_SIZE - 1
        if pfn < 0:
            raise UsageError(f"nothing is at {address + done:#x}")
        _check_alone(k, mm, pfn, address + done)
        part = data[done : done + PAGE_SIZE - first]
        pieces.append((pfn, first, part))
        done += len(part)
    for pfn, first, part in pieces:
        k.machine.ram.bytes[pfn, first : first + len(part)] = memoryview(part)
        k.machine.wrote(pfn)


def _check_alone(k: Kernel, mm: MmStruct | None, pfn: int, address: int) -> None:
    assert mm is not None
    entry = int(lookup(*k.machine.geometry, mm.pgd, address)[0])
    if pfn == ZERO_PFN:
        raise UsageError(f"the zero page is at {address:#x}, which nobody may write to")
    if not entry & RW and k.machine.frames.count[pfn] > 1:
        raise UsageError(f"{address:#x} is read-only, and others have its frame {pfn}, too")
