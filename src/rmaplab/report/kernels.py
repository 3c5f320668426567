"""What a kernel consists of, as tables or as JSON: every figure as it is at that kernel, since when, and who says so."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from rich.console import Group

from rmaplab.kernels.history import Bits, Status
from rmaplab.kernels.spec import KernelSpec
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.claims import CONFIGURATIONS, LINES
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.jit import interpreted
from rmaplab.machine.slab import SlabCache
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table


def object_sizes(spec: KernelSpec) -> Iterator[Table]:
    """Objects by configuration and by cache line, read off machines that were booted for it: without Numba, for so little."""
    mine = [(paging, highpte) for paging, highpte in CONFIGURATIONS if paging in spec.architectures]
    names = [f"{paging}{' HIGHPTE' if highpte else ''}" for paging, highpte in mine]
    by_configuration = new_table(
        "object sizes by configuration, bytes (128-byte lines)", "object|" + "|".join(f">{name}" for name in names)
    )
    with interpreted():
        systems = [boot(spec, ram="64M", paging=paging, highpte=highpte) for paging, highpte in mine]
    sizes = [_sizes(system) for system in systems]
    for name in dict.fromkeys(name for found in sizes for name in found):
        by_configuration.add_row(name, *(f"{found[name]:,}" if name in found else DASH for found in sizes))
    yield by_configuration
    lines = new_table(
        f"slabs by cache line on {spec.architectures[0]}: objects x bytes apart",
        "cache|" + "|".join(f">{line} bytes" for line in LINES),
    )
    usual = spec.architectures[0]
    with interpreted():
        caches = [boot(spec, ram="64M", paging=usual, l1_cache_bytes=line).machine.caches for line in LINES]
    for name in caches[0]:
        lines.add_row(name, *(_packing(found[name]) for found in caches))
    yield lines


def _sizes(system: System) -> dict[str, int]:
    """Struct page, what comes from caches, the kernel stack, a page table's entry."""
    hardware, design = system.machine.hardware, system.kernel.design
    word = hardware.paging.word_bytes
    page = system.spec.figure("page_struct_bytes", word) + design.page_bytes(hardware)
    caches = {name: cache.object_bytes for name, cache in system.machine.caches.items()}
    stack = {"kernel stack": 4096 << system.kernel.stack_order, "page-table entry": hardware.paging.entry_bytes}
    return {"struct page": page, **caches, **stack}


def _packing(cache: SlabCache) -> str:
    order, per_slab, stride, _ = cache.packing
    pages = f" in {1 << order} pages" if order else ""
    return f"{per_slab} x {stride:,}{pages}"


@dataclass(frozen=True)
class KernelRow:
    """A kernel of the list."""

    kernel: str
    released: str
    design: str
    about: str

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class FigureRow:
    """A figure as it is at a kernel; `since` is when its value came."""

    figure: str
    value: int | str
    status: str
    since: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class KernelList(Report[KernelRow]):
    """All kernels."""

    @classmethod
    def of(cls, specs: Iterable[KernelSpec]) -> "KernelList":
        """A row per kernel."""
        return cls([KernelRow(spec.name, spec.released, spec.design_class().name, spec.about) for spec in specs])

    def text(self) -> Table:
        """One line per kernel."""
        caption = "rmaplab kernels NAME shows what one consists of"
        table = new_table(None, "kernel|released|reverse map|_what it is", caption=caption, leave_out="released")
        for row in self.rows:
            table.add_row(row.kernel, row.released, row.design, row.about)
        return table


@dataclass(frozen=True)
class KernelDetails(Report[FigureRow]):
    """One kernel: what it is made of, and every figure with its source and how far it can be trusted."""

    spec: KernelSpec
    hardware: Hardware

    @classmethod
    def of(cls, spec: KernelSpec, hardware: Hardware) -> "KernelDetails":
        """A row per figure."""
        found = ((name, figure, figure.on(hardware.paging.word_bytes)) for name, figure in spec.figures.items())
        rows = [
            FigureRow(
                name,
                value.name.lower() if isinstance(value, Enum) else value,
                figure.status.value,
                figure.since,
                figure.source,
            )
            for name, figure, value in found
        ]
        return cls(rows, spec, hardware)

    def as_json(self) -> dict[str, Any]:
        """The kernel, what it is made of, its figures, and what its design makes of them."""
        spec = self.spec
        return {
            **KernelRow(spec.name, spec.released, spec.design_class().name, spec.about).as_json(),
            "uname": spec.release,
            "base": spec.base,
            "patches": [
                {"name": patch.name, "author": patch.author, "about": patch.about, "here": patch.here}
                for patch in spec.patches
            ],
            "paging": self.hardware.paging.name,
            "figures": super().as_json(),
            "objects": [
                {"object": name, "size_bytes": size, "status": status.value, "source": source}
                for name, size, status, source in _objects(spec, self.hardware)
            ],
        }

    def text(self) -> Group:
        """Tables."""
        spec, design = self.spec, self.spec.design_class()
        made_of = new_table(
            f"Linux {spec.name}, {spec.released}: {spec.about}",
            "made of|_by|_what it does|_here",
            caption=f"uname -r says {spec.release}",
            leave_out="by|what it does",
        )
        if spec.base:
            made_of.add_row(spec.base, "-aa" if "-aa" in spec.base else "mainline", "the base", "")
        for patch in spec.patches:
            made_of.add_row(f"+ {patch.name}", patch.author, patch.about, patch.here)
        made_of.add_row(f"reverse map: {design.name}", "", (design.__doc__ or "").splitlines()[0], "")
        figures = new_table(
            f"figures on {self.hardware.paging.name}", "figure|>value|status|since|_source", leave_out="since"
        )
        for row in self.rows:
            figures.add_row(row.figure, _value(row.value), row.status, row.since, row.source)
        sizes = new_table(f"what {design.name} makes of them", "object|>bytes|status|_source")
        for name, size, status, source in _objects(spec, self.hardware):
            sizes.add_row(name, f"{size:,}", status.value, source)
        return Group(made_of, figures, sizes, *object_sizes(spec))


def _objects(spec: KernelSpec, hardware: Hardware) -> Iterator[tuple[str, int, Status, str]]:
    """Objects with their bytes, as published where that agrees."""
    for name, size in spec.sizes(hardware).items():
        published = spec.published.get(name)
        if published is not None and published.value == size:
            yield name, size, published.status, published.source
        else:
            yield name, size, Status.BELIEVED, "computed from the figures above and the design"


def _value(value: int | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:#x}" if isinstance(value, Bits) else f"{value:,}"
