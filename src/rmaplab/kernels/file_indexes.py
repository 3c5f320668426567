"""The indexes of a file's VMAs there are: ours, and those that other packages install.

A package offers one by an entry point of the group `rmaplab.file_indexes`:

    [project.entry-points."rmaplab.file_indexes"]
    myindex = "mypackage.mymodule:MyIndex"

and any kernel boots with it: boot("2.6.2", file_index="myindex").
"""

from __future__ import annotations

from importlib.metadata import entry_points

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.kernels.plugins import demand_whole, load_class
from rmaplab.rmap.file_index import FileIndex, IndexKind

GROUP = "rmaplab.file_indexes"

OURS = {
    "list": "rmaplab.rmap.file_index:VmaLists",
    "rbtree": "rmaplab.rmap.file_index:VmaRbTree",
    "prio_tree": "rmaplab.rmap.file_index:VmaPrioTree",
    "prio_tree_mended": "rmaplab.rmap.file_index:VmaMendedPrioTree",
    "interval_tree": "rmaplab.rmap.file_index:VmaIntervalTree",
}


def file_indexes() -> dict[str, str]:
    """All of them, name -> `module:Class`. One of ours cannot be replaced by another package's."""
    return {point.name: point.value for point in entry_points(group=GROUP)} | OURS


def own_index(kind: int) -> str:
    """The name of what a kernel's figure `file_index` says."""
    return IndexKind(kind).name.lower()


def load_file_index(name: str) -> type[FileIndex]:
    """The class called `name`. Raises UsageError: no such name; it cannot be imported, or is no whole FileIndex."""
    found = OURS if name in OURS else file_indexes()  # which reads what all packages offer
    if name not in found:
        raise UsageError(
            f"no index of a file's VMAs {name!r}{did_you_mean(name, found)}: choose from {', '.join(found)}, or install a package that has it"
        )
    index = load_class(found[name], "index", FileIndex)  # type: ignore[type-abstract]
    demand_whole(index, found[name], "index", "rmaplab.rmap.file_index.FileIndex")
    return index
