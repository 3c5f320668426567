"""Arguments of a kernel's function in a few words: numbers of pages, addresses, VMAs and whose memory it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmaplab.cpu.pending import SignalInfo
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import AddressSpace, MmStruct, VmArea
from rmaplab.objects.task import TaskStruct

ADDRESSES = ("start", "end", "address", "length", "old", "new", "floor", "ceiling", "prot", "flags", "entry")
MOST = 6


def in_words(arguments: Mapping[str, Any]) -> str:
    """What can be said of them, in their order; what is the machine's own is left out."""
    words = [(name, _word(name, value)) for name, value in arguments.items()]
    return ", ".join(f"{name} {word}" for name, word in words if word is not None)


def _word(name: str, value: Any) -> str | None:
    if isinstance(value, bool) or value is None:
        return None if value is None else str(value).lower()
    if isinstance(value, int | np.integer):
        return f"{int(value):x}" if name in ADDRESSES else f"{int(value):,}"
    if isinstance(value, MmStruct):
        return f"of pid {value.pid}"
    if isinstance(value, TaskStruct):
        return f"pid {value.pid}"
    if isinstance(value, VmArea):
        return f"{value.start:x}-{value.end:x} of pid {value.mm.pid}"
    if isinstance(value, AddressSpace):
        return f"of {len(value.pages):,} pages in the cache"
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        shown = " ".join(str(each) for each in value[:MOST].tolist())
        return f"[{shown}{f' ... {value.size} in all' if value.size > MOST else ''}]"
    if isinstance(there := getattr(value, "there", None), int | np.integer):
        return f"from {int(there):x}"
    if isinstance(value, SignalInfo):
        return f"signal {value.number}, code {value.code}, address {value.address:x}"
    if not isinstance(value, Kernel) and isinstance(pfn := getattr(value, "pfn", None), int | np.integer):
        return f"of page {int(pfn)}"
    return None
