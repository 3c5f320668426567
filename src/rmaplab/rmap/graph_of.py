"""The graph of anon_vma_chain in a booted system, as objects/graph.py has it: to be laid beside the live kernel's.

    AnonVmaObjects.chains: VMA -> its AVCs, oldest first      kernel: vma->anon_vma_chain, a list whose head is the newest

So a VMA's chains are told newest first, as the live kernel's list has them. Everything else is a copy of fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, AnonVmas, Chains, Files, Graph, Processes, Vmas, build
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.chained_anon_vma import AnonVmaObjects, ChainedAnonVma

if TYPE_CHECKING:
    from rmaplab.objects.task import TaskStruct


class Modelled(NamedTuple):
    """A graph, and which VMA and which anon_vma each row of it is."""

    graph: Graph
    vmas: list[VmArea]
    anon_vmas: list[ChainedAnonVma]


def graph_of(design: AnonVmaObjects, tasks: Iterable[TaskStruct]) -> Modelled:
    """Of these tasks; one that has exited has no part in it. O(chains log chains)."""
    alive = [(task, task.mm) for task in tasks if task.mm is not None]
    mms = {mm.address: mm for _, mm in alive}
    vmas = [vma for mm in mms.values() for vma in mm.vmas]
    chains = [(row, avc.anon_vma) for row, vma in enumerate(vmas) for avc in reversed(design.chains.get(vma, []))]
    anon_vmas: list[ChainedAnonVma] = list(dict.fromkeys(anon_vma for _, anon_vma in chains))
    row_of = {anon_vma: row for row, anon_vma in enumerate(anon_vmas)}
    files = {vma.vm_file.mapping.address: vma.vm_file.mapping for vma in vmas if vma.vm_file is not None}
    row_of_file = {address: row for row, address in enumerate(files)}
    built = build(
        Processes(
            _column(task.pid for task, _ in alive),
            _column(task.parent.pid if task.parent else 0 for task, _ in alive),
            np.array([b"" for _ in alive], "S16"),
            _column(task.pid for task, _ in alive),  # younger is later
            _column(mm.address for _, mm in alive),
        ),
        Vmas(
            _column(vma.mm.address for vma in vmas),
            _column(vma.start for vma in vmas),
            _column(vma.end for vma in vmas),
            _column(vma.pgoff for vma in vmas),
            _column(vma.flags for vma in vmas),
            _column(vma.anon_vma.address if isinstance(vma.anon_vma, ChainedAnonVma) else NONE for vma in vmas),
            _column(NONE if vma.vm_file is None else row_of_file[vma.vm_file.mapping.address] for vma in vmas),
        ),
        AnonVmas(
            _column(anon_vma.root.address for anon_vma in anon_vmas),
            _column(anon_vma.parent.address for anon_vma in anon_vmas),
            _column(anon_vma.num_children for anon_vma in anon_vmas),
            _column(anon_vma.num_active_vmas for anon_vma in anon_vmas),
            _column(anon_vma.refcount for anon_vma in anon_vmas),
        ),
        Chains(_column(row for row, _ in chains), _column(row_of[anon_vma] for _, anon_vma in chains)),
        Files(np.zeros(len(files), np.int64), _column(files)),
        _column(anon_vma.address for anon_vma in anon_vmas),
    )
    rows = built.vmas.tolist(), built.anon_vmas.tolist()
    return Modelled(built.graph, [vmas[row] for row in rows[0]], [anon_vmas[row] for row in rows[1]])


def _column(values: Iterable[int]) -> I64:
    return np.fromiter(values, np.int64)
