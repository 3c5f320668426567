"""The reverse-mapping designs there are: ours, and those that other packages install.

A package offers one by an entry point of the group `rmaplab.designs`:

    [project.entry-points."rmaplab.designs"]
    mydesign = "mypackage.mymodule:MyDesign"

and it can be put under any kernel: `2.6.5-rc1+mydesign`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.kernels.plugins import demand_whole, load_class

if TYPE_CHECKING:
    from rmaplab.rmap.protocol import ReverseMap

GROUP = "rmaplab.designs"

OURS = {
    "virtual_scan": "rmaplab.rmap.virtual_scan:VirtualScan",
    "pte_chain": "rmaplab.rmap.pte_chain:PteChain",
    "anonmm": "rmaplab.rmap.anonmm:AnonMmMap",
    "anonmm_unordered": "rmaplab.rmap.anonmm:AnonMmUnordered",
    "anon_vma": "rmaplab.rmap.anon_vma:AnonVmaMap",
    "anon_vma_interval_tree": "rmaplab.rmap.anon_vma_indexed:AnonVmaIntervalTree",
    "anon_vma_chain": "rmaplab.rmap.anon_vma_chain:AnonVmaChainMap",
    "anon_vma_chain_newest": "rmaplab.rmap.anon_vma_chain:NewestFirst",
}


class DesignEntry(NamedTuple):
    """Where a design comes from: its import path (`module:Class`) and the package that brought it."""

    name: str
    path: str
    package: str


def designs() -> dict[str, DesignEntry]:
    """All designs by name. One of ours cannot be replaced by another package's."""
    from importlib.metadata import entry_points  # noqa: PLC0415  (a mail reader: who names one of ours does without)

    found = {}
    for point in entry_points(group=GROUP):
        found[point.name] = DesignEntry(point.name, point.value, point.dist.name if point.dist else "?")
    return found | {name: DesignEntry(name, path, "rmaplab") for name, path in OURS.items()}


def find_design(name: str) -> DesignEntry:
    """The design called `name`. Raises UsageError with the names there are."""
    found = designs()
    if name not in found:
        raise UsageError(
            f"no design {name!r}{did_you_mean(name, found)}: choose from {', '.join(found)}, or install a package that has it (see: rmaplab designs)"
        )
    return found[name]


def load_design(path: str) -> type[ReverseMap]:
    """The class at `module:Class`. Raises UsageError if it cannot be imported or is no design."""
    from rmaplab.rmap.protocol import VERSION, ReverseMap  # noqa: PLC0415

    found = load_class(path, "design", ReverseMap)  # type: ignore[type-abstract]
    if found.protocol_version != VERSION:
        raise UsageError(
            f"design {path} speaks protocol {found.protocol_version}, this is {VERSION}: update the package, or port it by "
            f'docs/writing-a-design.md and give it protocol_version = "{VERSION}"'
        )
    demand_whole(found, path, "design", "docs/writing-a-design.md")
    if not isinstance(getattr(found, "name", None), str):
        raise UsageError(f'design {path} has no name: give the class a line such as name = "mydesign"')
    return found
