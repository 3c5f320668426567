"""What the kernel's objects really take: slots of its slab caches, and how many of them are in use.

    /sys/kernel/slab/anon_vma/slab_size    104     root: sizeof plus what the allocator adds to each object
    /proc/slabinfo                         104     root: the same, and objects in use
    BTF of struct anon_vma                  96     anybody: sizeof

Objects in use are of the whole machine, and of whatever shares the cache: anon_vma_chain, 64 bytes, is merged with others of its
size. They lag behind: freed objects wait on each CPU. We write nothing to /sys to settle them.
"""

from pathlib import Path
from typing import NamedTuple

from rmaplab.host.bpf.btf import kernel_btf
from rmaplab.host.bpf.errors import BpfUnavailable

SLAB = Path("/sys/kernel/slab")
SLABINFO = Path("/proc/slabinfo")
OBJECTS = ("anon_vma", "anon_vma_chain", "vm_area_struct")


class Sizes(NamedTuple):
    """Bytes of an object by cache, where that was read, and objects in use where slabinfo says so."""

    by_cache: dict[str, int]
    source: str
    in_use: dict[str, int]


def read_sizes() -> Sizes:
    """Of anon_vma, anon_vma_chain and vm_area_struct, from the best place that can be read."""
    in_use, slots = _slabinfo()
    try:
        return Sizes({name: int((SLAB / name / "slab_size").read_text()) for name in OBJECTS}, str(SLAB), in_use)
    except (OSError, ValueError):
        pass
    if all(name in slots for name in OBJECTS):
        return Sizes({name: slots[name] for name in OBJECTS}, str(SLABINFO), in_use)
    try:
        btf = kernel_btf()
    except BpfUnavailable:
        return Sizes({}, "nowhere", in_use)
    found = {name: btf.size_of(name) for name in OBJECTS}
    return Sizes({name: size for name, size in found.items() if size}, "BTF: sizeof, not slots", in_use)


def _slabinfo() -> tuple[dict[str, int], dict[str, int]]:
    """(objects in use, bytes of a slot) by cache; nothing for who may not read it."""
    try:
        lines = SLABINFO.read_text(encoding="ascii").splitlines()[2:]
    except OSError:
        return {}, {}
    rows = [line.split() for line in lines]
    rows = [row for row in rows if row[0] in OBJECTS]
    return {row[0]: int(row[1]) for row in rows}, {row[0]: int(row[3]) for row in rows}
