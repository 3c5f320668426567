"""A sweep as a table, and in sentences: where the order of the designs turns."""

from collections.abc import Sequence

from rich.console import Group

from rmaplab.lab.costs.sweep import MemoryPoint, Stretch, orders
from rmaplab.report.emit import Report
from rmaplab.report.tables import Prose, Table, new_table
from rmaplab.units import format_size


class MemoryReport(Report[MemoryPoint]):
    """What `sweep memory` found."""

    columns = ">children|>VMAs|kernel|design|>objects|>in objects|>in VMAs|>in mms|>total|>rel.|>own slabs|>all slabs"

    def text(self) -> Group:
        """The table, what is paid per frame whatever runs, and where the order turns."""
        said = "\n".join(["", *page_lines(self.rows), "", *turn_lines(self.rows)])
        return Group(_table(self.rows), Prose(said))


def _table(points: Sequence[MemoryPoint]) -> Table:
    table = new_table(
        f"bytes that reverse maps take on {describe(points[0])}, measured",
        MemoryReport.columns,
        caption=(
            "VMAs: per process, of one written page each. Parent and children are all alive and share all pages.\n"
            "Only a pte_chain grows with the pages of a VMA: with more than one each, it takes so many times as much.\n"
            "objects: the design's own. in VMAs, in mms: what it adds to vm_area_struct and mm_struct. rel.: to the least total.\n"
            "own slabs: pages that hold its objects. all slabs: and all VMAs and mms, with what other code keeps in them."
        ),
        leave_out="all slabs|objects|in mms|in VMAs|own slabs|in objects|design",
    )
    by_place: dict[tuple[int, int], list[MemoryPoint]] = {}
    for point in sorted(points, key=lambda point: (point.children, point.vmas)):
        by_place.setdefault((point.children, point.vmas), []).append(point)
    for place, group in by_place.items():
        for i, point in enumerate(group):
            where = [f"{number:,}" for number in place] if i == 0 else ["", ""]
            table.add_row(*where, *_cells(point, group), end_section=i + 1 == len(group))
    return table


def _cells(point: MemoryPoint, group: Sequence[MemoryPoint]) -> list[str]:
    least = min(other.total_bytes for other in group)
    figures = sum(point.nr_objects.values()), point.objects_bytes, point.vma_bytes, point.mm_bytes, point.total_bytes
    cells = [point.kernel, point.design, *(f"{figure:,}" for figure in figures), _ratio(point.total_bytes, least)]
    return [*cells, format_size(point.own_slabs_bytes), format_size(point.all_slabs_bytes)]


def _ratio(value: int, least: int) -> str:
    if not least:
        return "-"
    return f"{value / least:.2f}" if value < 100 * least else f"{value / least:,.0f}"


def describe(point: MemoryPoint) -> str:
    """The box a point was measured on."""
    hardware = point.hardware
    highpte = " with HIGHPTE" if hardware["highpte"] and hardware["arch"] == "i386-pae" else ""
    ram, line = format_size(hardware["ram_bytes"]), hardware["l1_cache_bytes"]
    return f"{hardware['arch']}{highpte}, {ram} RAM, {line}-byte cache lines"


def page_lines(points: Sequence[MemoryPoint]) -> list[str]:
    """What every design adds to the struct pages of the box: there from the start, and not in the totals."""
    labels = labels_of(points)
    costs = {point.kernel: point.page_struct_bytes for point in points}
    sizes = ", ".join(f"{labels[kernel]} {format_size(size)}" for kernel, size in costs.items())
    return ["Not in the totals, because the box pays it at boot, is what they add to struct page:", f"{sizes}."]


def turn_lines(points: Sequence[MemoryPoint]) -> list[str]:
    """For every two kernels and every number of children: which one is cheaper, and from how many VMAs per process on."""
    labels = labels_of(points)
    lines = []
    for (one, other), by_children in orders(points).items():
        groups: dict[str, list[int]] = {}
        for children, stretches in by_children.items():
            groups.setdefault(_say(stretches, labels), []).append(children)
        if groups:
            lines.append(f"{labels[one]} or {labels[other]}, in total:")
        for said, counts in groups.items():
            lines.append(f"  with {_numbers(counts)} {'child' if counts == [1] else 'children'}: {said}")
    return lines


def labels_of(points: Sequence[MemoryPoint]) -> dict[str, str]:
    """A short name for every kernel: its design, or its own name where two have the same design."""
    designs = {point.kernel: point.design for point in points}
    found = list(designs.values())
    return {kernel: design if found.count(design) == 1 else kernel for kernel, design in designs.items()}


def _say(stretches: Sequence[Stretch], labels: dict[str, str]) -> str:
    if len(stretches) == 1:
        (only,) = stretches
        return f"{_cheaper(only, labels)} at every number of VMAs per process measured"
    first, *rest = stretches
    said = [f"{_cheaper(first, labels)} {_up_to(first)}"]
    before = first
    for stretch in rest:
        between = (
            "" if before.last + 1 == stretch.first else f" (it turns between {before.last:,} and {stretch.first:,})"
        )
        said.append(f"{_cheaper(stretch, labels)} from {stretch.first:,} VMAs per process on{between}")
        before = stretch
    return ", ".join(said)


def _cheaper(stretch: Stretch, labels: dict[str, str]) -> str:
    return f"{labels[stretch.cheaper]} is cheaper" if stretch.cheaper is not None else "both are equal"


def _up_to(stretch: Stretch) -> str:
    return f"at {stretch.last:,}" if stretch.first == stretch.last else f"up to {stretch.last:,}"


def _numbers(numbers: Sequence[int]) -> str:
    words = [f"{number:,}" for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
