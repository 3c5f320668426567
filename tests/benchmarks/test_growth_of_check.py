"""What is measured of check() is as large as its name says."""

import pytest

from benchmarks import growth_of_check


@pytest.mark.parametrize("shape", growth_of_check.SHAPES)
def test_more_processes_are_measured_beside_few(shape: str) -> None:
    """Small ones, of both shapes: each process maps all pages, and the table has a line for it."""
    grown = growth_of_check.growth("6.18", shape, turns=1, processes=(2, 5), ram="256M")
    pages, _ = growth_of_check.SHAPES[shape]
    assert grown.entries == (2 * pages, 5 * pages)
    assert min(*grown.few, *grown.many, grown.ratio) > 0
    assert grown.row()[-1] in ("ok", "not met")
    assert len(growth_of_check.table_of([grown]).rows) == 1


def test_what_grows_by_itself_is_named() -> None:
    """A list that each process's page is looked for on; and nothing else."""
    slow = growth_of_check.Grown("2.6.7", "own", [1.0], [9.0], (1, 2))
    assert [each.row()[-1] for each in (slow, slow._replace(shape="small"), slow._replace(kernel="6.18"))] == [
        "[1]", "not met", "not met"
    ]  # fmt: skip
    assert growth_of_check.table_of([slow]).caption == growth_of_check.WHY
