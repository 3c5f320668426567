"""The text of a script and the script are each other's inverse; what is no script says where, and what was expected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.calls import words
from rmaplab.calls.table import BIRTHS, CALLS
from rmaplab.calls.words import Address, Length
from rmaplab.errors import UsageError
from rmaplab.workloads.script import Lives, Op, Script, ScriptError, op, parse, read_script, steps, usage

ADDRESSES = st.one_of(
    st.builds(Address, st.sampled_from("wmh"), st.integers(-(10**6), 10**6), st.integers(0, 4095)),
    st.builds(Address, st.just(""), st.integers(0, 2**48 // 4096), st.integers(0, 4095)),
)
LENGTHS = st.builds(Length, st.integers(0, 10**9), st.integers(0, 4095))


def values(kind: words.Kind) -> st.SearchStrategy[Any]:
    """Every value that such a word can have."""
    match kind:
        case words.PlaceKind():
            return ADDRESSES | st.just("any")
        case words.AddressKind():
            return ADDRESSES
        case words.LengthKind():
            return LENGTHS
        case words.NumberKind():
            return st.integers(0, kind.most)
        case words.VmaNameKind():
            return st.sampled_from(["-", "a", "heap.2"])
        case words.FileKind():
            return st.integers(-1 if kind.none else 0, words.MOST_FILES - 1)
        case words.SegmentKind():
            return st.integers(0, words.MOST_SEGMENTS - 1)
        case words.KeyKind():
            return st.integers(0, words.MOST_KEY)
        case words.WordKind():
            return st.sampled_from(list(kind.words.values()))
        case words.ProtKind():
            return st.integers(0, 7)
        case words.FlagsKind(exactly_one=True):
            return st.sampled_from(list(kind.words.values()))
        case words.FlagsKind():
            return st.sets(st.sampled_from(list(kind.words.values()))).map(sum)
    raise AssertionError(f"a strategy is missing for {kind}")


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Any script: whoever lives calls whatever there is."""
    lives, ops = Lives(), list[Op]()
    for _ in range(draw(st.integers(1, 12))):
        alive = [name for name in lives.born if name not in lives.gone]
        if not alive:
            break
        process, call = draw(st.sampled_from(alive)), draw(st.sampled_from(list(CALLS)))
        child = [f"P{len(lives.born)}"] if call in BIRTHS else []
        kinds = [argument.kind for argument in CALLS[call].arguments[len(child) :]]
        living = st.sampled_from(alive)
        arguments = [
            *child,
            *(draw(living if isinstance(kind, words.LivingKind) else values(kind)) for kind in kinds),
        ]
        if call in ("read", "write", "fetch"):
            arguments[0] = replace(arguments[0], extra=0)
        if call == "mremap" and arguments[4] is None:
            arguments[3] = 0
        if call == "fail":
            arguments[0] = max(1, arguments[0])
        if call == "limit":
            arguments[1] = Length(arguments[1].pages)
        made = op(process, call, *arguments)
        if lives.problem(made) is None:
            lives.do(made)
            ops.append(made)
    return Script(tuple(ops))


@given(scripts())
def test_what_is_written_is_read_again(script: Script) -> None:
    """parse(str(script)) is the script, line for line."""
    again = parse(str(script))
    assert [line.same() for line in again.ops] == [line.same() for line in script.ops]
    assert [line.line for line in again.ops] == list(range(1, len(script.ops) + 1))


@given(scripts(), st.integers(0, 3))
def test_blanks_and_comments_mean_nothing(script: Script, nr: int) -> None:
    """Neither around a line nor behind it nor between lines."""
    text = "".join(
        f"#x\n  {line.replace(' ', ' ' * (nr + 1))} # {line}" + "\n" * (nr + 1) for line in str(script).splitlines()
    )
    assert str(parse(text)) == str(script)


def test_the_line_of_each_call_reads_as_the_manual_page() -> None:
    """A few lines by hand, with what they mean."""
    script = parse(
        "A: mmap any 8 rw NORESERVE|POPULATE\nA: mremap w+1 4 8 MAYMOVE|FIXED w+16\nA: munmap m-8+1b 2+17b\nA: mprotect w 1 -"
    )
    first, second, third, fourth = script.ops
    assert (first["address"], first["length"], first["prot"], first["flags"]) == ("any", Length(8), 3, 0x4000 | 0x8000)
    assert (second["flags"], second["to"]) == (3, Address("w", 16))
    assert (third["address"], third["length"]) == (Address("m", -8, 1), Length(2, 17))
    assert third["length"].nr_bytes == 2 * 4096 + 17
    assert (fourth["address"], fourth["prot"]) == (Address("w", 0), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f:1: expected an operation such as A: mmap w+0 1 rw, found none"),
        ("# nothing\n\n# yet\n", "f:3: expected an operation such as A: mmap w+0 1 rw, found none"),
        ("A mmap w+0 8 rw", "f:1: expected a process and a colon such as A:, found 'A'"),
        ("\n\na: wait", "f:3: expected a process and a colon such as A:, found 'a:'"),
        ("A:", "f:1: expected a call after 'A:'"),
        ("A: mmap w+0 8 rw\nA: mumap w+0 8", "f:2: expected a call, found 'mumap' (did you mean munmap?): one of mmap, create"),
        ("A: mmap q+1 8 rw", "f:1: expected an address such as w+3, m-8, h+2 or w+3+17b, or \"any\", found 'q+1'"),
        ("A: mmap w+1", "f:1: expected a length in pages such as 8, 2+17b or 17b, found the end of the line: mmap ADDRESS LENGTH PROT [FLAGS] [FILE] [OFFSET]"),
        ("A: mmap w+1 8 rq", "f:1: expected a protection: some of the letters rwx, or - for none, found 'rq'"),
        ("A: mmap w+1 8 rr", "found 'rr'"),
        ("A: mremap w+1 8 8 FIXED|FIXED w+2", "expected 0, or words joined by |, of MAYMOVE, FIXED, DONTUNMAP, found 'FIXED|FIXED'"),
        ("A: mremap w+1 8 8 MAYMOVE|FIXED", "f:1: expected the address that FIXED moves to"),
        ("A: madvise w+1 8 DONTNEED|FREE", "expected one of NORMAL"),
        ("A: wait 1", "f:1: expected the end of the line, found '1': wait"),
        ("A: read w+0+4089b", "f:1: expected a place for 8 bytes within a page, found 'w+0+4089b'"),
        ("A: exit 256", "f:1: expected an exit code (0 to 255), found '256'"),
        ("A: shmget q0 1 1", "f:1: expected a segment, s0 to s63, found 'q0': shmget SEGMENT KEY LENGTH [FLAGS]"),
        ("A: shmget s0 0 1", "f:1: expected a key, 1 to 255 or PRIVATE, found '0'"),
        ("A: shmctl s0 STAT", "f:1: expected one of RMID, LOCK, UNLOCK, found 'STAT'"),
        ("A: limit NPROC 17b", "f:1: expected a number of processes, found '17b'"),
        ("A: wait | A: wait", "f:1: expected at most two operations in a line, of two processes"),
        ("A: fork B\nA: wait | B: wait | A: wait", "f:2: expected at most two operations in a line, of two processes"),
        ("A: fork B | B: wait", "f:1: expected two processes that are there both when the line begins"),
        ("A: wait |", "f:1: expected the end of the line, found '|': wait"),
        ("A: fork B\nA: wait | B: wait =>", "f:2: expected what it comes to"),
        ("A: fork b", "f:1: expected a new process's name: a capital letter, then letters and digits, found 'b'"),
        ("A: fork A", "f:1: expected a new name, found A, which is the first process"),
        ("A: fork B\nB: fork B", "f:2: expected a new name, found B, which line 1 has given already"),
        ("B: exit", "f:1: expected a process that lives, found B: fork it first (A: fork B)"),
        ("A: exit\n\nA: wait", "f:3: expected a process that lives, found A, which exits in line 1"),
        ("A: vfork B\nA: wait", "f:2: A waits for its vfork child: expected B: exit or B: exec before"),
        ("".join(f"A: fork P{i}\n" for i in range(512)), "f:512: expected at most 512 processes and threads that live: let one exit"),
        ("A: thread T\nT: vfork B", "f:2: expected a process for vfork, found T, which is a thread: let A do it"),
        ("A: thread T\nA: exec\nT: wait", "f:3: expected a process that lives, found T, which exits in line 2"),
        ("A: thread T\nA: fork B\nT: kill\nB: wait\nA: wait", "f:5: expected a process that lives, found A, which exits in line 3"),
    ],
)  # fmt: skip
def test_a_wrong_script_says_where_and_what_was_expected(text: str, message: str) -> None:
    """File, line, and what should stand there."""
    with pytest.raises(ScriptError) as caught:
        parse(text, "f")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_calls_of_one_line() -> None:
    """Left, then right, with what each must come to; written as they were read."""
    text = "A: mmap w+0 4 rw\nA: fork B\nA: mremap w+0 4 4 MAYMOVE|FIXED w+16 => w+16 | B: write w+2 => ok\nB: exit\n"
    script = parse(text)
    assert [(op.process, op.call, op.line, op.expected, op.beside) for op in script.ops[2:]] == [
        ("A", "mremap", 3, "w+16", False),
        ("B", "write", 3, "ok", True),
        ("B", "exit", 4, "", False),
    ]
    assert str(script) == text
    assert parse(str(script)) == script
    alone = replace(script, ops=script.ops[:2] + script.ops[3:])  # what a shrinker may leave
    assert parse(str(alone)).ops[2].same() == script.ops[3].same()


def test_a_vfork_parent_goes_on_after_exit_or_exec() -> None:
    """Until then it waits."""
    assert parse("A: vfork B\nB: exit\nA: wait").processes == ("A", "B")
    assert parse("A: vfork B\nB: exec\nA: wait").processes == ("A", "B")


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    """As it was given."""
    (tmp_path / "x").write_text("A: fork B\nB: fly")
    with pytest.raises(ScriptError, match=r"x:2: expected a call, found 'fly'"):
        read_script(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"\xff\xfe")
    for name, why in (("z", "No such file"), ("y", "it is not text"), (".", "Is a directory")):
        with pytest.raises(UsageError, match=why):
            read_script(tmp_path / name)


def test_usage_names_every_argument() -> None:
    """As the manual page does."""
    assert usage("mremap") == "mremap ADDRESS OLD NEW [FLAGS] [TO]"


def test_places_of_the_dead_are_free_again() -> None:
    """So many processes may live at once, and many more one after the other; a thread's place is free with its process."""
    text = "A: fork B\nB: thread T\nA: fork C\nB: exit\nA: fork D\nA: fork E\n"
    assert [step[:2] for step in steps(parse(text).ops)] == [(0, 1), (1, 2), (0, 3), (1, 0), (0, 1), (0, 2)]
    chain = "repeat 2000 i\nA: fork P{i}\nP{i}: exit\nend\n"
    assert {step.child_slot for step in steps(parse(chain).ops)} == {0, 1}


def test_of_many_those_are_looked_at_whom_an_operation_is_about() -> None:
    """Everybody while few live, and at the end."""
    text = "".join(f"A: fork P{i}\n" for i in range(20)) + "P3: wait\nP3: wait\n"
    looks = [step.looks for step in steps(parse(text).ops)]
    assert looks[:15] == [None] * 15
    assert looks[15:] == [*[("A", f"P{i}") for i in range(15, 20)], ("P3",), None]
