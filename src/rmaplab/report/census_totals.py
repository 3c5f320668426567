"""Tables of a census that say whose total a figure is: memory of processes beside the machine's, objects beside slabs."""

from rmaplab.lab.census.census import Census
from rmaplab.lab.census.memory import memory_rows, object_rows
from rmaplab.machine.arrays import I64
from rmaplab.report.tables import DASH, Prose, Table, new_table, plain
from rmaplab.units import format_size


def memory_text(census: Census, mms: I64 | None) -> str:
    """What processes say that they have, and what the machine says."""
    table = new_table(None, "memory|>summed over processes|>of the machine|_what it is")
    for row in memory_rows(census.totals(mms), census.walk(mms), census.snapshot.machine):
        if row.of_processes is not None or row.of_machine is not None:
            table.add_row(row.kind, size(row.of_processes), size(row.of_machine), row.why)
    whose = "all processes that were seen" if mms is None else "these processes"
    return titled(f"Memory of {whose}, and of the machine", table)


def objects_text(census: Census) -> str:
    """Objects that hang on VMAs, and objects in slabs; nothing where no graph was read, or only a part of it."""
    rows = object_rows(census.totals(), census.snapshot)
    if not rows or census.snapshot.scope is not None:
        return ""
    table = new_table(
        None, "objects|>on VMAs that were seen|>in use, by slabinfo|>slots, by slabinfo|>caches that share the slabs"
    )
    for row in rows:
        shown = (DASH if nr is None else f"{nr:,}" for nr in (row.in_graph, row.in_use, row.slots, row.merged_with))
        table.add_row(row.cache, *shown)
    return titled(
        "Objects of the reverse map, on VMAs and in slabs",
        table,
        "in use are more: freed ones that wait on a CPU or for a grace period (RCU), those of processes that nobody shows, and of other\n"
        "caches that share the slabs. slots are more again: slabs that are filled in part.",
    )


def titled(title: str, table: Table, caption: str = "") -> str:
    """Title and caption on lines of their own: a table would break them to its width."""
    text = f"{plain(Prose(title))}{plain(table).rstrip()}\n"
    return f"{text}\n{plain(Prose(caption))}" if caption else text


def size(value: int | None) -> str:
    """Bytes for a reader."""
    return DASH if value is None else format_size(value)
