"""What a kernel is: a point in time plus patches; figures with their sources, a reverse-mapping design.

    the histories at 2.6.5-rc1   figures, pte_chain
      + 00100_objrmap-core-1     changes the design of file pages
      + 00101_anon_vma-1         changes the design of anonymous pages, VMA merging
    = 2.6.5-rc1-aa1

Every rule and size of a kernel is a figure with a history (history.py), so `rmaplab kernels NAME` can show them all, and nothing is
set elsewhere. Which kernels there are: releases.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rmaplab.errors import UsageError
from rmaplab.kernels.designs import load_design
from rmaplab.kernels.history import Figure
from rmaplab.kernels.plugins import load_class
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.paging import Paging, paging_format
from rmaplab.mm.rules import Rules
from rmaplab.reclaim.reclaimer import Reclaimer
from rmaplab.reclaim.rules import ReclaimRules
from rmaplab.rmap.walk_rules import WalkRules

if TYPE_CHECKING:
    from rmaplab.rmap.protocol import ReverseMap

WORD_SIZES = (4, 8)  # bytes


@dataclass(frozen=True)
class Patch:
    """A patch of a kernel: who wrote it, what it does, and what that is `here` (nothing, if it is about something else)."""

    name: str
    author: str
    about: str
    here: str
    figures: Mapping[str, Figure] | None = None
    design: str | None = None
    published: Mapping[str, Figure] | None = None
    needs: str | None = None
    """The name of the patch that it goes on top of."""
    extraversion: str = ""
    """What it appends to the kernel's version."""

    @property
    def number(self) -> str:
        """What it is called for short; others of its release may be called so too."""
        return self.name.partition("_")[0]

    @property
    def title(self) -> str:
        """Its name without number and revision."""
        return re.sub(r"-\d+$", "", self.name.partition("_")[2] or self.name)


@dataclass(frozen=True)
class KernelSpec:
    """A kernel that can be booted. `design` is the import path of its ReverseMap, `module:Class`."""

    name: str
    released: str
    about: str
    design: str
    figures: Mapping[str, Figure]
    reclaim: str = ""
    """The import path of its Reclaimer; "" where nobody has built that."""
    architectures: tuple[str, ...] = ("i386-pae", "i386", "x86-64")
    """The page-table formats it boots on; the first is what it gets unless another is asked for."""
    base: str | None = None
    patches: tuple[Patch, ...] = ()
    published: Mapping[str, Figure] = field(default_factory=dict)
    """What was published about sizes that we compute: validation, not input."""
    software: str = "2.6"
    """Whose software prices it goes by (prices.py)."""
    version: str = ""
    """What `uname -r` says, if that is not its name."""

    @property
    def release(self) -> str:
        """What `uname -r` says."""
        return self.version or self.name

    def patched(self, name: str, released: str, about: str, *patches: Patch, local: str = "") -> KernelSpec:
        """This kernel with patches on top, in order. `local` comes behind the version that they make of its own."""
        figures, design, published = dict(self.figures), self.design, dict(self.published)
        for patch in patches:
            changed = (patch.figures or {}).items()
            figures.update((key, replace(figure, since=patch.name)) for key, figure in changed)
            design = patch.design or design
            published.update(patch.published or {})
        return replace(
            self,
            name=name,
            released=released,
            about=about,
            design=design,
            figures=figures,
            base=self.name,
            patches=patches,
            published=published,
            version=self.release + "".join(patch.extraversion for patch in patches) + local,
        )

    def figure(self, name: str, word_bytes: int) -> int:
        """One figure's value."""
        return self.figures[name].on(word_bytes)

    def paging(self, name: str | None, split: str | None = None) -> Paging:
        """The page-table format called `name`, laid out as this kernel lays out an address space. Raises UsageError."""
        found = paging_format(name or self.architectures[0], split)
        if found.name not in self.architectures:
            raise UsageError(
                f"{self.name} does not run on {found.name} here: choose --paging {' or '.join(self.architectures)}"
            )
        if "task_size_bytes" not in self.figures:
            return found
        task_size, base, heap = (
            self.figure(f"{what}_bytes", found.word_bytes) for what in ("task_size", "mmap_base", "heap_base")
        )
        return replace(found, task_size=task_size, unmapped_base=base, heap_base=heap)

    def rules(self, word_bytes: int) -> Rules:
        """The rules mm/ goes by: the figures that carry a rule's name. Made once for each size."""
        return self._rules[word_bytes]

    def walk_rules(self, word_bytes: int) -> WalkRules:
        """The rules a walk from a page goes by, likewise."""
        return self._walk_rules[word_bytes]

    def reclaim_rules(self, word_bytes: int) -> ReclaimRules:
        """The rules reclaim goes by, where it is here."""
        return ReclaimRules(**self._figures_of(ReclaimRules, word_bytes))

    @cached_property
    def _rules(self) -> dict[int, Rules]:
        return {size: Rules(**self._figures_of(Rules, size)) for size in WORD_SIZES}

    @cached_property
    def _walk_rules(self) -> dict[int, WalkRules]:
        return {size: WalkRules(**self._figures_of(WalkRules, size)) for size in WORD_SIZES}

    def _figures_of(self, record: type[Rules | WalkRules | ReclaimRules], word_bytes: int) -> dict[str, Any]:
        return {
            rule.name: (rule.type if isinstance(rule.type, type) else int)(self.figure(rule.name, word_bytes))
            for rule in fields(record)
        }

    def sizes(self, hardware: Hardware) -> dict[str, int]:
        """Bytes of what the kernel and its design share, and of the design's own objects."""
        design, word = self.design_class(), hardware.paging.word_bytes
        return {
            "struct page": self.figure("page_struct_bytes", word) + design.page_bytes(hardware),
            "struct vm_area_struct": self.figure("vm_area_struct_bytes", word) + design.vma_bytes(hardware.paging),
            **design.object_bytes(hardware),
        }

    def design_class(self) -> type[ReverseMap]:
        """The class of its reverse map. Raises UsageError if it is another package's and cannot be loaded."""
        return load_design(self.design)

    def reclaim_class(self) -> type[Reclaimer] | None:
        """The class of its reclaim; None where it has none here."""
        return load_class(self.reclaim, "reclaim", Reclaimer) if self.reclaim else None  # type: ignore[type-abstract]
