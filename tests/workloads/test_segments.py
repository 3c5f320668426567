"""Names of segments: what shmget has returned, told by the first name that means the same."""

from rmaplab.calls.table import CALLS
from rmaplab.lab.differential.obey import obey
from rmaplab.workloads.script import parse
from rmaplab.workloads.segments import NOBODYS, Segments


def test_the_first_name_of_an_id_is_told() -> None:
    """Until it is given to another; a name that nobody has given is an id that no segment has."""
    segments = Segments()
    assert [segments.given(name, number) for name, number in ((3, 70), (1, 70), (3, 71), (2, 70), (0, 71))] == [
        3,
        1,
        3,
        1,
        0,
    ]
    attach, make = parse("A: shmat s1 w+0\nA: shmget s1 5 1").ops
    numbers = {"segment": 1, "address": 8, "flags": 0}
    segments.put(attach, numbers)
    assert numbers == {"segment": 70, "address": 8, "flags": 0}
    assert list(numbers) == [argument.name for argument in CALLS["shmat"].arguments]
    numbers = {"segment": 1, "key": 5, "length": 4096, "flags": 0}
    segments.put(make, numbers)
    assert numbers == {"key": 5, "length": 4096, "flags": 0}
    numbers = {"segment": 9}
    segments.put(parse("A: shmstat s9").ops[0], numbers)
    assert numbers == {"segment": NOBODYS}


def test_a_name_holds_for_all_processes() -> None:
    """Who has an id may use it; what fails leaves the name as it was."""
    script = parse("""
        A: shmget s0 5 2+100b
        A: fork B
        B: shmget s1 5 1
        B: shmget s0 6 1
        B: shmget s2 5 1
        A: shmget s1 5 9
        A: shmstat s1
        A: shmat s0 w+0
        A: shmstat s0""")  # fmt: skip
    assert obey(script, "6.18").results == [
        "s0",
        "ok",
        "s0",
        "s0",
        "s1",
        "EINVAL",
        "2+100b x0 mode 600 key 5",
        "w+0",
        "1 x1 mode 600 key 6",
    ]
