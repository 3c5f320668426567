"""What a kernel consists of, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from rich.table import Table

from rmaplab.kernels.spec import KernelSpec, Status
from rmaplab.machine.paging import Paging
from rmaplab.report.tables import new_table


def kernel_list(specs: Iterable[KernelSpec]) -> Table:
    """One line per kernel."""
    table = new_table(
        None, "kernel|released|reverse map|what it is", caption="rmaplab kernels NAME shows what one consists of"
    )
    for spec in specs:
        table.add_row(spec.name, spec.released, spec.design_class().name, spec.about)
    return table


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


def _value(value: int) -> str:
    return value.name.lower() if isinstance(value, Enum) else f"{value:,}"
