"""What a kernel consists of, as tables."""

from collections.abc import Iterable, Iterator
from enum import Enum

from rich.table import Table

from rmaplab.kernels.spec import KernelSpec, Status
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.claims import CONFIGURATIONS, LINES
from rmaplab.machine.paging import Paging
from rmaplab.machine.slab import SlabCache
from rmaplab.report.tables import DASH, new_table


def kernel_list(specs: Iterable[KernelSpec]) -> Table:
    """One line per kernel."""
    table = new_table(
        None, "kernel|released|reverse map|what it is", caption="rmaplab kernels NAME shows what one consists of"
    )
    for spec in specs:
        table.add_row(spec.name, spec.released, spec.design_class().name, spec.about)
    return table


def object_sizes(spec: KernelSpec) -> Iterator[Table]:
    """Objects by configuration and by cache line, read off machines that were booted for it."""
    mine = [(paging, highpte) for paging, highpte in CONFIGURATIONS if paging in spec.architectures]
    names = [f"{paging}{' HIGHPTE' if highpte else ''}" for paging, highpte in mine]
    by_configuration = new_table(
        "object sizes by configuration, bytes (128-byte lines)", "object|" + "|".join(f">{name}" for name in names)
    )
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
    caches = [boot(spec, ram="64M", paging=usual, l1_cache_bytes=line).machine.caches for line in LINES]
    for name in caches[0]:
        lines.add_row(name, *(_packing(found[name]) for found in caches))
    yield lines


def _sizes(system: System) -> dict[str, int]:
    """Struct page, what comes from caches, the kernel stack, a page table's entry."""
    hardware, design = system.machine.hardware, system.kernel.design
    word = hardware.paging.word_bytes
    page = system.spec.figure("page_struct_bytes", word) + design.page_bytes(hardware.paging, highpte=hardware.highpte)
    caches = {name: cache.object_bytes for name, cache in system.machine.caches.items()}
    stack = {"kernel stack": 4096 << system.kernel.stack_order, "page-table entry": hardware.paging.entry_bytes}
    return {"struct page": page, **caches, **stack}


def _packing(cache: SlabCache) -> str:
    order, per_slab, stride, _ = cache.packing
    pages = f" in {1 << order} pages" if order else ""
    return f"{per_slab} x {stride:,}{pages}"


def kernel_details(spec: KernelSpec, paging: Paging, *, highpte: bool) -> Iterator[Table]:
    """One kernel: what it is made of, and every figure with its source and how far it can be trusted."""
    design = spec.design_class()
    made_of = new_table(f"Linux {spec.name}, {spec.released}: {spec.about}", "made of|by|what it does")
    if spec.base:
        made_of.add_row(spec.base, "mainline", "the base")
    for patch in spec.patches:
        made_of.add_row(f"+ {patch.name}", patch.author, patch.about)
    made_of.add_row(f"reverse map: {design.name}", "", (design.__doc__ or "").splitlines()[0])
    yield made_of
    figures = new_table(f"figures on {paging.name}", "figure|>value|status|source")
    for name, figure in spec.figures.items():
        figures.add_row(name, _value(figure.on(paging.word_bytes)), figure.status.value, figure.source)
    yield figures
    sizes = new_table(f"what {design.name} makes of them", "object|>bytes|status|source")
    for name, size in spec.sizes(paging, highpte=highpte).items():
        published = spec.published.get(name)
        agrees = published is not None and published.value == size
        status = published.status.value if published and agrees else Status.BELIEVED.value
        sizes.add_row(
            name,
            f"{size:,}",
            status,
            published.source if published and agrees else "computed from the figures above and the design",
        )
    yield sizes
    yield from object_sizes(spec)


def _value(value: int) -> str:
    return value.name.lower() if isinstance(value, Enum) else f"{value:,}"
