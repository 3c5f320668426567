"""What the kernel's objects really take: slots of its slab caches, and how many of them are in use.

    /sys/kernel/slab/anon_vma/slab_size    104     root: sizeof plus what the allocator adds to each object
    /proc/slabinfo                         104     root: the same, and objects in use
    BTF of struct anon_vma                  96     anybody: sizeof

Objects in use are of the whole machine, and more than processes hang on: those of whatever shares the cache (anon_vma_chain, 64 bytes,
is merged with others of its size), of processes that nobody shows, and freed ones that wait on a CPU's slab or for a grace
period (anon_vma is SLAB_TYPESAFE_BY_RCU). Slots are more again: slabs that are partly filled. We write nothing to /sys to settle them.
Sources: mm/slub.c, get_slabinfo, find_mergeable; mm/rmap.c, anon_vma_init.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from rmaplab.host.bpf.btf import kernel_btf
from rmaplab.host.bpf.errors import BpfUnavailable

SLAB = Path("/sys/kernel/slab")
SLABINFO = Path("/proc/slabinfo")
OBJECTS = ("anon_vma", "anon_vma_chain", "vm_area_struct")


class Sizes(NamedTuple):
    """Bytes of an object by cache, where that was read; where slabinfo says so, objects in use and slots. `merged`: with how many caches."""

    by_cache: dict[str, int]
    source: str
    in_use: dict[str, int]
    slots: Mapping[str, int] = MappingProxyType({})
    merged: Mapping[str, int] = MappingProxyType({})


def read_sizes() -> Sizes:
    """Of anon_vma, anon_vma_chain and vm_area_struct, from the best place that can be read."""
    caches = _slabinfo()
    sizes, source = _sizes({name: row[2] for name, row in caches.items()})
    in_use, slots = ({name: row[column] for name, row in caches.items()} for column in (0, 1))
    return Sizes(sizes, source, in_use, slots, _merged())


def _sizes(slots: dict[str, int]) -> tuple[dict[str, int], str]:
    try:
        return {name: int((SLAB / name / "slab_size").read_text()) for name in OBJECTS}, str(SLAB)
    except (OSError, ValueError):
        pass
    if all(name in slots for name in OBJECTS):
        return {name: slots[name] for name in OBJECTS}, str(SLABINFO)
    try:
        btf = kernel_btf()
    except BpfUnavailable:
        return {}, "nowhere"
    found = {name: btf.size_of(name) for name in OBJECTS}
    return {name: size for name, size in found.items() if size}, "BTF: sizeof, not slots"


def _merged() -> dict[str, int]:
    """How many other caches have the same slabs: their links in /sys/kernel/slab lead to the same place."""
    try:
        with os.scandir(SLAB) as caches:  # hundreds: no Path of each
            targets = {cache.name: os.readlink(cache.path) for cache in caches if cache.is_symlink()}  # noqa: PTH115
        leads_to = Counter(targets.values())
        return {name: leads_to[targets[name]] - 1 for name in OBJECTS if name in targets}
    except OSError:
        return {}


def _slabinfo() -> dict[str, tuple[int, int, int]]:
    """(objects in use, slots, bytes of a slot) by cache; nothing for who may not read it."""
    try:
        lines = SLABINFO.read_text(encoding="ascii").splitlines()[2:]
    except OSError:
        return {}
    rows = [line.split() for line in lines]
    return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows if row[0] in OBJECTS}
