"""Facts that are cited can be read: "eras.md 6.2" is the heading 6.2 of docs/facts/eras.md, and nothing stands there that nobody cites.

A citation is a name and its sections: "eras.md 6.1 and 7", "modern.md 1.1 to 1.5, 2.8", "history.md 4.1 (any groups) or 4.2". What follows is
parted from it by anything but a comma, or a kernel's version would be taken for a section.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FACTS = ROOT / "docs" / "facts"
KINDS = {".py", ".md", ".c", ".h", ".script", ".toml"}

_SECTION = r"(?:[A-J]\.?\d+|[A-J]\b|\d+(?:\.\d+)*)(?![\w-])"
_WORDS = r"(?:\s*\([^()]*\))?"  # what it is cited for, in parentheses
_NAME = r"\b(?:history|eras|modern|future|files|reclaim|peers)\.md\b(?!#)"
_CITED = re.compile(rf"({_NAME})((?:\s+{_SECTION}{_WORDS})(?:(?:,| and| or| to|, and)\s+{_SECTION}{_WORDS})*)?")


def _sections(path: Path) -> dict[str, str]:
    """The numbered headings of a file of facts, in order, and the text below each up to the next heading of any level."""
    found = re.split(rf"^#+ ({_SECTION})\.? ", path.read_text(), flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


HEADINGS = {path.name: _sections(path) for path in FACTS.glob("*.md")}


def _expand(name: str, text: str) -> Iterator[str]:
    """The sections that a citation's text names, "to" filled in from the file's headings."""
    parts = re.findall(rf"(\bto\s+)?({_SECTION})", re.sub(r"\([^()]*\)", "", text))
    last = ""
    for to, section in parts:
        order = list(HEADINGS.get(name, {}))
        if to and last in order and section in order:
            yield from order[order.index(last) + 1 : order.index(section)]
        yield section
        last = section


def _citations(text: str) -> list[tuple[str, str]]:
    """(file of facts, section) for each that a text cites; the section is "" where only the file is named."""
    flat = re.sub(r"\n[ \t]*(?:#|\*|//)?[ \t]*", " ", text)
    return [
        (match[1], section)
        for match in _CITED.finditer(flat)
        for section in (_expand(match[1], match[2]) if match[2] else [""])
    ]


def _texts() -> Iterator[tuple[Path, str]]:
    for folder in ("src", "docs", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in KINDS and path != Path(__file__):
                yield path.relative_to(ROOT), path.read_text()


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("eras.md 6.1 and 7.", ["6.1", "7"]),
        ("(eras.md 0.3)", ["0.3"]),
        ("eras.md 2.1,\n#    2.2; 2.6.2 mm/swap.c", ["2.1", "2.2"]),
        ("eras.md 1.2 (who holds it), 2.2 (reuse)", ["1.2", "2.2"]),
        ("eras.md 6.1 to 6.3, 9", ["6.1", "6.2", "6.3", "9"]),
        ("eras.md 4.4 in words: header 24 B", ["4.4"]),
        ("eras.md 2, 4-byte slots", ["2"]),
        ("see eras.md", [""]),
    ],
)
def test_a_citation_is_read_as_it_is_meant(text: str, cited: list[str]) -> None:
    assert _citations(text) == [("eras.md", section) for section in cited]


def test_sections_with_letters() -> None:
    assert _citations("reclaim.md E.1, E.2, files.md B6; reclaim.md E.") == [
        ("reclaim.md", "E.1"),
        ("reclaim.md", "E.2"),
        ("files.md", "B6"),
        ("reclaim.md", "E"),
    ]


def test_every_citation_leads_to_a_heading() -> None:
    lost = [
        f"{path}: {name} {section or 'without a section'}"
        for path, text in _texts()
        for name, section in _citations(text)
        if section not in HEADINGS.get(name, {}) and not (section == "" and _lists_them(path))
    ]
    assert lost == []


def _lists_them(path: Path) -> bool:
    return path.parent == Path("docs/facts") or path == Path("docs/design.md")


def test_what_nobody_cites_is_not_shipped() -> None:
    cited = {found for path, text in _texts() if path.parent != Path("docs/facts") for found in _citations(text)}
    idle = [
        f"{name} {section}"
        for name, sections in HEADINGS.items()
        for section in sections
        if not any(n == name and (s == section or s.startswith(section + ".")) for n, s in cited)
    ]
    assert idle == []


def test_every_section_says_where_it_was_read() -> None:
    """Its own source, or that of the sections below it."""
    bare = [
        f"{name} {section}"
        for name, sections in HEADINGS.items()
        for section, text in sections.items()
        if not any(other.startswith(section + ".") for other in sections)
        and not re.search(r"Source|[Ll]ive\b|HT:|[Ww]orked out", text)
    ]
    assert bare == []


def _anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(path: Path) -> set[str]:
    return {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}


def test_every_link_leads_somewhere() -> None:
    """To a file that is there, and in it to a heading."""
    lost = []
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "SECURITY.md", ROOT / "src/rmaplab/README.md"]:
        for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", path.read_text()):
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                lost.append(f"{path.relative_to(ROOT)}: {target}")
    assert lost == []
