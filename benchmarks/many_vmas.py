"""What a walk from a page of a file visits, where many VMAs map the file: rmap-test 1 to 4 and test-mmap 1 to 3, at their published sizes.

    rmap-test    every process maps N stretches of s pages of one file, shared and writable, a page between two; t children
                 |== s ==| |== s ==| |== s ==| ...        x (t + 1)
    test-mmap    every process maps W pages of one file, each by itself, the last page first

Nothing is computed: pages are faulted, processes forked, and each row says what walks have counted: visits of VMAs for page_referenced and for
try_to_unmap, and nodes of the index for a page_referenced. Pages are a sample, symmetrical about the middle of the file's VMAs, so
that its mean is that of all.

    python -m benchmarks.many_vmas            one JSON row a test and index; some minutes, and 4 GB

Sizes: M. Bligh, LKML, March 2004, as autotest has them (rmap-test); A. Arcangeli, LKML, 21 March 2004 (test-mmap); files.md E4.
"""

import json
from typing import Any, NamedTuple

import numpy as np

import rmaplab
from rmaplab.objects.flags import MAP_FIXED, MAP_SHARED
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.rmap.queries import referenced, unmap
from rmaplab.units import PAGE_SIZE

BASE = 0x1000_0000
KERNEL = "2.6.5-rc1-aa1"
MOST = 64  # VMAs of which a page is asked for


class Shape(NamedTuple):
    """VMAs a process, pages each, pages between two, processes; whether the last one is mapped first."""

    name: str
    vmas: int
    pages: int
    gap: int
    processes: int
    backwards: bool = False


SHAPES = (
    Shape("rmap-test-1", 100, 600, 1, 101),
    Shape("rmap-test-2", 100, 600, 1, 101),
    Shape("rmap-test-3", 10_000, 7, 1, 2),
    Shape("rmap-test-4", 1, 65_536, 0, 513),
    Shape("test-mmap", 18_000, 1, 0, 1, backwards=True),
    Shape("test-mmap2", 1_800, 1, 0, 32, backwards=True),
    Shape("test-mmap3", 18_000, 1, 0, 32, backwards=True),
)
INDEXES = ("list", "prio_tree", "interval_tree")


class Walks(NamedTuple):
    """Of the sampled VMAs, one page each: which they are in map order, and what was visited."""

    vmas: list[int]
    referenced: list[int]
    unmap: list[int]
    nodes: list[int]

    def row(self, shape: Shape, kernel: str, index: str) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "test": shape.name,
            "kernel": kernel,
            "index": index,
            "vmas": shape.vmas * shape.processes,
            "referenced_visits_per_page": float(np.mean(self.referenced)),
            "unmap_visits_per_page": float(np.mean(self.unmap)),
            "nodes_per_walk": float(np.mean(self.nodes)),
        }


def first_page(shape: Shape, vma: int) -> int:
    """The page of the file that the VMA shows first, which was mapped as number `vma`."""
    return shape.vmas - vma if shape.backwards else vma * (shape.pages + shape.gap)


def build(shape: Shape, kernel: str, index: str | None, ram: str) -> tuple[rmaplab.System, AddressSpace]:
    """All processes, all pages faulted in. Files and VMAs as the test has them."""
    system = rmaplab.boot(kernel, ram=ram, file_index=index, paging="x86-64")
    parent = system.spawn()
    space = system.new_file(size=(shape.vmas * (shape.pages + shape.gap) + 1) * PAGE_SIZE, on_disk=False)
    opened = parent.open(space, writable=True)
    length = shape.pages * PAGE_SIZE
    stride = length + PAGE_SIZE  # a page is free between two, or they would be one where the file's pages continue
    for vma in range(shape.vmas):
        at, pgoff = BASE + vma * stride, first_page(shape, vma)
        parent.mmap(length, flags=MAP_SHARED | MAP_FIXED, address=at, file=opened, pgoff=pgoff)
        parent.touch(at, length, write=True)
    for _ in range(shape.processes - 1):
        child = parent.fork()
        for vma in range(shape.vmas):
            child.touch(BASE + vma * stride, length)
    return system, space


def sample(shape: Shape) -> list[int]:
    """VMAs, by number: each with its mirror image about the middle."""
    step = -(-shape.vmas // MOST)
    some = range(0, shape.vmas, step)
    return sorted({*some, *(shape.vmas - 1 - vma for vma in some)})


def walk(shape: Shape, kernel: str = KERNEL, index: str | None = None, ram: str = "2G") -> Walks:
    """Ask page_referenced, then unmap, of a page of each sampled VMA."""
    system, space = build(shape, kernel, index, ram)
    rmap, counts, frames = system.kernel.rmap, system.machine.ledger.counts, system.machine.frames
    walks = Walks(sample(shape), [], [], [])
    for vma in walks.vmas:
        page = np.array([space.pages[first_page(shape, vma) + vma % shape.pages]])
        before = counts["vma_visit"], counts["file_node_visit"]
        assert referenced(rmap, page).nr.tolist() == [shape.processes]
        walks.referenced.append(counts["vma_visit"] - before[0])
        walks.nodes.append(counts["file_node_visit"] - before[1])
        frames.count[page] += 1
        middle = counts["vma_visit"]
        assert unmap(rmap, page, np.zeros(1, np.int64)).replaced.tolist() == [shape.processes]
        walks.unmap.append(counts["vma_visit"] - middle)
        frames.count[page] -= 1
    return walks


def main() -> None:
    """All tests on all indexes."""
    for shape in SHAPES:
        for index in INDEXES:
            print(json.dumps(walk(shape, index=index).row(shape, KERNEL, index)), flush=True)


if __name__ == "__main__":
    main()
