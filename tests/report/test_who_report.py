"""The drawing of an answer: long lists are cut aloud, what is not known is not drawn."""

from rmaplab.host.areas import Area, Areas
from rmaplab.host.candidates import Visit
from rmaplab.host.procfs import HostVma
from rmaplab.host.who import Answer
from rmaplab.report import areas as areas_report
from rmaplab.report.areas import AreasReport
from rmaplab.report.who import MOST, lines

VMA = HostVma(0x400000, 0x500000, "rw-p", 0, "00:00", 0, "[heap]")


def drawn(answer: Answer, asked: str = "") -> list[str]:
    return [line.plain.rstrip() for line in lines(answer, asked)]


def visits(nr: int, miss: str = "") -> list[Visit]:
    return [Visit(pid, "sh", 0x401000, VMA, miss) for pid in range(10, 10 + nr)]


def test_a_page_with_mappers_and_visits_in_vain() -> None:
    """Solid branches for entries, broken ones for what is visited in vain; the walk as a sentence."""
    mappers, wasted = visits(2), visits(1, "no entry")
    answer = Answer(0x1A2B, "anon", ["ANON"], 2, 0x401, False, mappers=mappers, candidates=[*mappers, *wasted])
    said = drawn(answer, "pid 10 (sh) at 401000")
    assert said[0] == "pid 10 (sh) at 401000"
    assert "  page        pfn 0x1a2b, anonymous memory" in said
    assert "  index       0x401" in said
    assert "    ├── 10 sh  401000            in 400000-500000 rw-p [heap]" in said
    assert "    └╌╌ 10 sh  401000  no entry  in 400000-500000 rw-p [heap]" in said
    assert said[-1] == "  the kernel's own walk visits 3 VMAs, 1 of them in vain"


def test_a_moved_page_says_so() -> None:
    said = drawn(Answer(1, "anon", mapcount=1, index=0x300, mappers=visits(1)))
    assert "  index       0x300, the one of address 300000: the VMA was moved since" in said


def test_a_long_list_is_cut_aloud() -> None:
    """The rest is counted, and where to have it is said."""
    mappers, wasted = visits(MOST + 1234), visits(MOST + 1, "no entry")
    said = drawn(Answer(1, "file", mapcount=len(mappers), mappers=mappers, candidates=[*mappers, *wasted]))
    assert sum("── " in line for line in said) == MOST
    assert sum("╌╌ " in line for line in said) == MOST
    assert "    … 1,234 more: --format json has them all" in said
    assert "    … 1 more: --format json has them all" in said
    assert said[-1] == f"  the kernel's own walk visits {2 * MOST + 1235:,} VMAs, {MOST + 1} of them in vain"


def test_what_is_not_known_is_not_drawn() -> None:
    """No candidates, no sentence about the walk; partly known ones are the least there are."""
    said = drawn(Answer(1, "anon", mapcount=1, mappers=visits(1), notes=["not known: that takes BPF"]))
    assert not any("walk" in line for line in said)
    assert said[-1] == "  not known: that takes BPF"
    said = drawn(Answer(1, "file", mapcount=1, mappers=visits(1), candidates=visits(1), partial=True))
    assert said[-1] == "  the kernel's own walk visits at least 1 VMA, none in vain"


def test_no_page_is_one_line() -> None:
    assert drawn(Answer(None, "none", absent="pid 1 has no page"), "asked") == ["asked", "", "  pid 1 has no page"]
    assert "  nobody maps it" in drawn(Answer(1, "free", mapcount=0, candidates=[]))


def test_a_list_of_vmas_says_what_to_ask_next() -> None:
    """Of the VMA with most pages in common with others; what is cut is counted."""
    areas = [Area(VMA._replace(start=i << 20, end=i + 1 << 20), 4, 4, i == 3, 0) for i in range(areas_report.MOST + 7)]
    said = AreasReport([Areas(10, "sh", areas)]).text().plain.splitlines()
    assert said[0] == f"pid 10 (sh): {areas_report.MOST + 7:,} VMAs"
    assert sum(line.endswith("[heap]") for line in said) == areas_report.MOST
    assert "  … 7 more: --format json has them all" in said
    assert "  next, of the VMA of which most is shared:  rmaplab who 10 300000-400000" in said


def test_whose_entries_name_a_slot() -> None:
    said = drawn(Answer(None, "swap", absent="pid 10 has no page at 0x401000: swapped out", same_slot=visits(2)))
    assert said[:3] == ["  pid 10 has no page at 0x401000: swapped out", "", "  the slot"]
    assert [line.split()[1] for line in said if "── " in line] == ["10", "11"]
