"""rmap-test and test-mmap: how many VMAs map the file, and which of its pages are walked from."""

import pytest

import rmaplab
from rmaplab.workloads.manyvmas import PROGRAMS, ManyVmas


def test_the_published_sizes() -> None:
    """files.md E4: V, the VMAs that map the file."""
    assert {name: program.nr_vmas for name, program in PROGRAMS.items()} == {
        "rmap-test-1": 10_100,
        "rmap-test-2": 10_100,
        "rmap-test-3": 20_000,
        "rmap-test-4": 513,
        "test-mmap": 18_000,
        "test-mmap2": 57_600,
        "test-mmap3": 576_000,
    }


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: program.name)
@pytest.mark.parametrize("most", [1, 8, 512, 10**6])
def test_a_sample_is_as_good_as_all_pages(program: ManyVmas, most: int) -> None:
    """It has its own mirror image, so the mean place of its VMAs is that of all; its pages are mapped ones, and all if they may be."""
    pages = program.sample(most)
    total = program.vmas * program.pages
    assert [total - 1 - nr for nr in reversed(pages)] == pages
    assert sum(nr // program.pages for nr in pages) * 2 == len(pages) * (program.vmas - 1)
    assert len(pages) == total if most > 2 * total else 1 <= len(pages) <= most + 2


@pytest.mark.parametrize("backwards", [False, True])
def test_every_page_is_mapped_by_all(backwards: bool) -> None:
    """And no VMA has merged with the next, whichever way they were mapped."""
    program = ManyVmas("small", 5, 1 if backwards else 3, 0 if backwards else 1, 4, backwards)
    system = rmaplab.boot("6.18", ram="64M")
    space, tasks = program.run(system)
    assert [len(task.mm.vmas) for task in tasks if task.mm] == [5] * 4
    shown = [program.file_page(nr) for nr in range(program.vmas * program.pages)]
    assert sorted(shown) == (list(range(1, 6)) if backwards else [page for page in range(20) if page % 4 < 3])
    assert {system.machine.frames.mapcount[space.pages[page]] for page in shown} == {4}
    system.check()


def test_a_smaller_one_has_fewer_vmas() -> None:
    """In each process; where each has one alone, of fewer processes."""
    assert PROGRAMS["rmap-test-1"].smaller(4).nr_vmas == 25 * 101
    assert PROGRAMS["rmap-test-4"].smaller(16).nr_vmas == 32
    assert PROGRAMS["test-mmap"].smaller(10**6).nr_vmas == 1
