"""The model that the conformance kit compares memory with: what a failed call may have changed, and what it may not."""

import rmaplab
from rmaplab.lab.memory import Memory, Stake, layout
from rmaplab.objects.flags import MADV_DONTNEED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

STAMP = int.from_bytes(b"stamp")
NR = 4


def moved_in_part(*, there: bool) -> tuple[bool, Memory]:
    """[s . . .] -> [s . . .], DONTUNMAP: whether what the kernel has is what is expected if the call then failed."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    assert task.mm is not None
    old, new = task.mmap(NR * PAGE_SIZE), task.mmap(NR * PAGE_SIZE)
    task.write(old, STAMP.to_bytes(8, "little"))
    memory = Memory(layout(task.mm), {old >> PAGE_SHIFT: STAMP})
    assert memory.wrong_contents(system, task.mm) is None
    task.mremap(old, NR * PAGE_SIZE, NR * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, new)
    if not there:
        task.madvise(new, PAGE_SIZE, MADV_DONTNEED)
    spans = [(at >> PAGE_SHIFT, NR) for at in (old, new)]
    assert memory.adopt(system, task.mm, Stake(spans, spans[1:], moved=(new - old) >> PAGE_SHIFT)) is None
    return memory.wrong_contents(system, task.mm) is None, memory


def test_what_has_left_its_place_must_have_arrived() -> None:
    """Since 6.17 the first VMAs of a run have gone when a later one fails."""
    right, memory = moved_in_part(there=True)
    assert right
    assert list(memory.stamps.values()) == [STAMP]
    right, _ = moved_in_part(there=False)
    assert not right
