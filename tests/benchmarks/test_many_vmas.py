"""files.md E4, by walking: what page_referenced and try_to_unmap visit in small editions of rmap-test and test-mmap, page by page.

`make vmas` walks at the published sizes: V = P N; lists 10,100, 20,000, 513; trees 101, 2, 513; unmap means 5,100.5, 10,001, 513.
"""

import pytest
from benchmarks.many_vmas import SHAPES, Shape, first_page, sample, walk

SMALL = (
    Shape("rmap-test-1", 10, 6, 1, 11),
    Shape("rmap-test-3", 200, 7, 1, 2),
    Shape("rmap-test-4", 1, 128, 0, 23),
    Shape("test-mmap", 180, 1, 0, 1, backwards=True),
    Shape("test-mmap2", 18, 1, 0, 8, backwards=True),
)
shapes = pytest.mark.parametrize("shape", SMALL, ids=lambda shape: shape.name)


@shapes
@pytest.mark.parametrize("kernel", ["2.6.5-rc1+00100", "2.6.5-rc1-aa1"])
def test_lists(shape: Shape, kernel: str) -> None:
    """All P N members for page_referenced; try_to_unmap stops behind the block of its VMA: P (i + 1)."""
    walks = walk(shape, kernel, ram="64M")
    everybody = shape.processes * shape.vmas
    assert walks.referenced == walks.nodes == [everybody] * len(walks.vmas)
    assert walks.unmap == [shape.processes * (vma + 1) for vma in walks.vmas]
    assert sum(walks.unmap) / len(walks.unmap) == shape.processes * (shape.vmas + 1) / 2


@shapes
@pytest.mark.parametrize("index", ["prio_tree", "prio_tree_mended", "interval_tree"])
def test_trees(shape: Shape, index: str) -> None:
    """Those that map the page and nobody else."""
    walks = walk(shape, "2.6.5-rc1-aa1", index, ram="64M")
    assert walks.referenced == walks.unmap == [shape.processes] * len(walks.vmas)
    assert max(walks.nodes) <= shape.processes + 2 * (shape.vmas * (shape.pages + 1)).bit_length()


@shapes
def test_today(shape: Shape) -> None:
    """6.18 forks without copying what is shared, and the children have faulted by themselves."""
    walks = walk(shape, "6.18", ram="64M")
    assert walks.referenced == walks.unmap == [shape.processes] * len(walks.vmas)


def test_the_published_sizes() -> None:
    """files.md E4: VMAs on the file's lists, and that a sample is as good as all: symmetrical, and within the file."""
    assert [shape.vmas * shape.processes for shape in SHAPES] == [10_100, 10_100, 20_000, 513, 18_000, 57_600, 576_000]
    for shape in SHAPES:
        vmas = sample(shape)
        assert sum(vmas) * 2 == len(vmas) * (shape.vmas - 1)
        assert all(0 <= first_page(shape, vma) <= shape.vmas * (shape.pages + shape.gap) for vma in vmas)
