"""Merging: whoever gives a VMA a range asks its neighbours; later, whoever changes flags does too.

    a fresh range, or the place a mapping moves to                 a part of a VMA changes its flags
    |--- prev ---|   range   |--- next ---|                        |--- prev ---|----- vma -----|--- next ---|
                                                                                 ===            the part at its left end:   prev grows
    both agree, and with each other:  prev covers all three                                ===  the part at its right end:  next grows
    one agrees:                       it grows over the range                    =============  all of it:  prev, next, or prev over both
    none:                             a new VMA                                      =====      the middle:  split, twice; what sticks out is new

Two VMAs agree if their flags (but for sticky ones), memory policies and names are equal, if they show the same open file or none, if page offsets continue, and
if the reverse map says so. A VMA that grows over pages of another takes over its place in the reverse map first
(`vma_adopt`, dup_anon_vma in Linux): that may need memory, so it comes before anything has changed. To leave it out is the bug
of 61f67c230a5e (January 2026), where mremap merged and did not clone.

Source: mm/mmap.c of 2.6.2, vma_merge; mm/vma.c of 6.15 to 6.18, vma_merge_new_range, vma_merge_existing_range, vma_modify;
modern.md 1.8, history.md 4.
"""

from rmaplab.mm.file_rules import FileMerging
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.vma import absorb, move_border, set_range, split_vma
from rmaplab.mm.vma_lock import vma_start_write
from rmaplab.objects.mm_types import File, MmStruct, VmArea
from rmaplab.objects.traits import PLAIN, Traits
from rmaplab.units import PAGE_SHIFT


def merge_new_range(
    k: Kernel,
    mm: MmStruct,
    source: VmArea | None,
    start: int,
    end: int,
    flags: int,
    pgoff: int,
    *,
    grows: bool = False,
    file: File | None = None,
    zero: File | None = None,
) -> tuple[VmArea | None, VmArea | None]:
    """Let a neighbour, or both, cover the free range [start, end).

    `source` is the VMA whose pages move there (mremap) or that `grows` into it, None for a fresh range, of `file` if it shows one, made of `zero` if that is /dev/zero. Where it grows nothing is
    copied, so that nobody asks whether it is a fork's child (vma_merge_extend has no vmg.middle). Returns the VMA that covers
    the range now, or None; and `source`, or what it has become part of. Raises as an allocation, with nothing changed.
    """
    if flags & k.rules.vm_special:
        return None, source
    before, after = mm.gap_around(start, end)
    nr_pages = (end - start) >> PAGE_SHIFT
    if before is not None and (
        before.end != start or not continues(k, before, flags, pgoff - before.nr_pages, source, file=file, zero=zero)
    ):
        before = None
    asked = grows and source is not None and k.design.vma_is_faulted(source)  # below, by vma_can_merge
    if after is not None and (
        after.start != end
        or not continues(k, after, flags, pgoff + nr_pages, source, asked=asked, file=file, zero=zero)
    ):
        after = None
    if before is not None and after is not None and not (k.design.vma_can_merge(before, after) and may_go(k, after)):
        after = None
    target = before or after
    if target is None:
        return None, source
    if source is not None and source is not target:
        k.design.vma_adopt(target, source)
    _keep_sticky(k, target, flags, before, after)
    if before is not None and after is not None:
        absorb(k, before, after)
        source = before if source is after else source
    else:
        set_range(k, target, min(start, target.start), max(end, target.end))
    if source is not None and source is not target:
        k.design.vma_adjust(target, source)
    k.machine.charge("vma_merge")
    return target, source


def vma_modify(
    k: Kernel,
    vma: VmArea,
    start: int,
    end: int,
    flags: int,
    call: str,
    *,
    merge: bool = True,
    with_next: bool = True,
    traits: Traits | None = None,
) -> VmArea:
    """Give the part [start, end) of `vma` the vm_flags `flags`, perhaps other `traits`: the VMA that covers it then.

    Raises NoMemory, or SyscallError(ENOMEM) where a split would be one mapping too many; `call` is whose error that is. A
    first split stays when the second one fails, as in Linux. Without `merge` there are only splits; without `with_next` only the VMA
    before it is asked.
    """
    traits = vma.traits if traits is None else traits
    target = _merge_existing(k, vma, start, end, flags, traits, with_next=with_next) if merge else None
    if target is not None:
        k.machine.charge("vma_merge")
        return target
    if k.rules.split_renews_ends and (vma.start < start) != (end < vma.end):
        vma = split_vma(k, vma, start if vma.start < start else end, call, below=end < vma.end)
    if vma.start < start:
        split_vma(k, vma, start, call, below=True)
    if end < vma.end:
        split_vma(k, vma, end, call, below=False)
    vma_start_write(k, vma)
    vma.flags, vma.traits = flags, traits
    return vma


def continues(
    k: Kernel,
    neighbour: VmArea,
    flags: int,
    pgoff: int,
    source: VmArea | None,
    *,
    asked: bool = False,
    traits: Traits | None = None,
    file: File | None = None,
    zero: File | None = None,
) -> bool:
    """Whether `neighbour` may grow over pages of `source`, if its first page had to be page `pgoff` of the object.

    With `asked` the reverse map has its say elsewhere. `traits` are those of `source`, if nothing else is said. Without a `source` it is a
    fresh range, of `file` if it shows one, or made of /dev/zero.
    """
    if source is not None:
        file, zero = source.file, source.zero
    made_of = file or zero
    if traits is None:
        traits = source.traits if source is not None else PLAIN
    if made_of is not None and k.rules.file_merging < (FileMerging.MMAP if source is None else FileMerging.ALWAYS):
        return False
    return (
        (neighbour.flags ^ flags) & ~k.rules.vm_sticky == 0
        and neighbour.traits == traits
        and neighbour.file is file
        and neighbour.zero is zero
        and (neighbour.ops is None or k.rules.removal_minds_close)
        and (neighbour.pgoff == pgoff or (made_of is None and not k.design.linear))
        and (asked or k.design.vma_can_grow(neighbour, source))
    )


def may_go(k: Kernel, vma: VmArea) -> bool:
    """can_merge_remove_vma: nobody counts it."""
    return vma.ops is None or not k.rules.removal_minds_close


def _keep_sticky(k: Kernel, target: VmArea, flags: int, *parts: VmArea | None) -> None:
    """What is about to become `target`, of these flags and VMAs, has the sticky flags of all."""
    for part in parts:
        flags |= 0 if part is None else part.flags
    target.flags |= flags & k.rules.vm_sticky


def _merge_existing(
    k: Kernel, vma: VmArea, start: int, end: int, flags: int, traits: Traits, *, with_next: bool
) -> VmArea | None:
    """vma_merge_existing_range: None if nobody agrees. Raises as an allocation, with nothing changed."""
    if flags & k.rules.vm_special:
        return None
    left, right = start == vma.start, end == vma.end
    before, after = vma.mm.neighbours(vma)
    if not left or (
        before is not None
        and (before.end != start or not continues(k, before, flags, vma.pgoff - before.nr_pages, vma, traits=traits))
    ):
        before = None
    if not (right and with_next) or (
        after is not None
        and (after.start != end or not continues(k, after, flags, vma.pgoff + vma.nr_pages, vma, traits=traits))
    ):
        after = None
    if left and right and not may_go(k, vma):
        return None
    if before is not None and after is not None and not k.design.vma_can_merge(before, after):
        after = None
    target = before or after
    if target is not None:
        _keep_sticky(k, target, flags, before, after)
    if before is not None and after is not None:
        k.design.vma_adopt(before, after if k.design.vma_is_faulted(after) else vma)
        absorb(k, before, vma)
        absorb(k, before, after)
        return before
    if target is not None:
        if left and right:
            absorb(k, target, vma)
        else:
            move_border(k, target, vma, end if target is before else start)
    return target
