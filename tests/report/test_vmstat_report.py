"""Lines of vmstat(8) as a terminal of 80 columns showed them in 2004. The two lines of the header are those of procps 3.2.2."""

from rmaplab.lab.vmstat import VmstatLine
from rmaplab.report.vmstat import LINES, VmstatScreen

HEADER = """\
procs -----------memory---------- ---swap-- -----io---- --system-- ----cpu----
 r  b   swpd   free   buff  cache   si   so    bi    bo   in    cs us sy id wa
"""
QUIET = VmstatLine(1, 0, 0, 812340, 0, 61236, 0, 0, 12, 7, 1013, 45, 4, 21, 75, 0)
BUSY = VmstatLine(16, 2, 524284, 604, 0, 0, 9412, 34947, 9412, 34947, 1404, 12345, 0, 100, 0, 0)


def test_a_header_and_a_line() -> None:
    assert (
        VmstatScreen().text(QUIET)
        == HEADER + " 1  0      0 812340      0  61236    0    0    12     7 1013    45  4 21 75  0\n"
    )


def test_what_is_too_long_pushes_the_rest() -> None:
    """No figure is cut: procps' widths are the least there are."""
    screen = VmstatScreen()
    screen.text(QUIET)
    assert screen.text(BUSY) == "16  2 524284    604      0      0 9412 34947  9412 34947 1404 12345  0 100  0  0\n"


def test_the_header_comes_again_when_it_is_gone() -> None:
    """After each 21 lines: a terminal of 24."""
    screen = VmstatScreen()
    texts = [screen.text(QUIET) for _ in range(3 * LINES)]
    assert [i for i, text in enumerate(texts) if text.startswith(HEADER)] == [0, LINES, 2 * LINES]
    assert max(len(line) for text in texts for line in text.splitlines()) < 80
