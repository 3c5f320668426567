"""What a kernel is: figures with their sources, a reverse-mapping design, a base and the patches on top of it.

    2.6.5-rc1                    figures, pte_chain
      + 00100_objrmap-core-1     changes the design of file pages
      + 00101_anon_vma-1         changes the design of anonymous pages, VMA merging
    = 2.6.5-rc1-aa1

A figure is a number or a yes with the place it comes from, and whether that is *validated* (checked against the running
kernel or a published figure) or *believed*. Every rule and size of a kernel is one, so `rmaplab kernels NAME` can show them
all, and nothing is set elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rmaplab.mm.rules import Rules

if TYPE_CHECKING:
    from rmaplab.rmap.protocol import ReverseMap


class Status(Enum):
    """How far a figure can be trusted."""

    VALIDATED = "validated"
    BELIEVED = "believed"


@dataclass(frozen=True)
class Figure:
    """One figure: its value on 32-bit machines, its source, its status, and its value on 64-bit ones where that differs."""

    value: int
    source: str
    status: Status
    value64: int | None = None

    def on(self, word_bytes: int) -> int:
        """The value for an architecture."""
        return self.value if word_bytes == 4 or self.value64 is None else self.value64


@dataclass(frozen=True)
class Patch:
    """A patch of a kernel: who wrote it, what it does, and what it changes here (nothing, if it is about something else)."""

    name: str
    author: str
    about: str
    figures: Mapping[str, Figure] | None = None
    design: str | None = None


@dataclass(frozen=True)
class KernelSpec:
    """A kernel that can be booted. `design` is the import path of its ReverseMap, `module:Class`."""

    name: str
    released: str
    about: str
    design: str
    figures: Mapping[str, Figure]
    base: str | None = None
    patches: tuple[Patch, ...] = ()

    def patched(self, name: str, released: str, about: str, *patches: Patch) -> KernelSpec:
        """This kernel with patches on top, in order."""
        figures, design = dict(self.figures), self.design
        for patch in patches:
            figures.update(patch.figures or {})
            design = patch.design or design
        return KernelSpec(name, released, about, design, figures, self.name, patches)

    def figure(self, name: str, word_bytes: int) -> int:
        """One figure's value."""
        return self.figures[name].on(word_bytes)

    def rules(self, word_bytes: int) -> Rules:
        """The rules mm/ goes by: the figures that carry a rule's name."""
        values: dict[str, Any] = {}
        for field in fields(Rules):
            value = self.figure(field.name, word_bytes)
            values[field.name] = bool(value) if field.type is bool else value
        return Rules(**values)

    def design_class(self) -> type[ReverseMap]:
        """The class of its reverse map."""
        module, _, name = self.design.partition(":")
        found: type[ReverseMap] = getattr(import_module(module), name)
        return found
