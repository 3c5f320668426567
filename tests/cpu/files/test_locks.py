"""Record locks: what a file of bytes with an owner each would say."""

import random

from rmaplab.cpu.files.inode import Inode, Mount
from rmaplab.cpu.files.locks import TO_THE_END, FileLocks, RecordLock
from rmaplab.cpu.files.open_file import Descriptors, OpenFile

BYTES = 12
OWNERS = ("a", "b", "c")


def test_they_are_a_table_of_bytes() -> None:
    """Shared by many or exclusive to one; taking replaces what one had, releasing a part leaves both sides."""
    for seed in range(30):
        rng, locks = random.Random(seed), FileLocks()
        table: list[dict[str, bool]] = [{} for _ in range(BYTES)]
        for _ in range(60):
            start = rng.randrange(BYTES)
            end = rng.randrange(start + 1, BYTES + 1)
            owner, exclusive = rng.choice(OWNERS), rng.random() < 0.5
            wanted = RecordLock(owner, 1, start, end, exclusive)
            bad = any(
                other != owner and (exclusive or held) for byte in table[start:end] for other, held in byte.items()
            )
            assert (locks.hindering(wanted) is not None) == bad
            if rng.random() < 0.4:
                locks.release(owner, start, end)
                for byte in table[start:end]:
                    byte.pop(owner, None)
            elif not bad:
                locks.take(wanted)
                for byte in table[start:end]:
                    byte[owner] = exclusive
            for at, byte in enumerate(table):
                here = {lock.owner: lock.exclusive for lock in locks.records if lock.start <= at < lock.end}
                assert here == byte


def test_closing_any_descriptor_of_a_file_lets_go_of_a_process_s_locks() -> None:
    """And the last one of flock's."""
    inode, locks = Inode(Mount(1, b"x", 0), 2, 0o600), FileLocks()
    inode.locks = locks
    descriptors, other = Descriptors(), Descriptors()
    first, second = OpenFile(2, inode), OpenFile(2, inode)
    one, two = descriptors.install(first), descriptors.install(second)
    three = descriptors.install(first)
    locks.take(RecordLock(descriptors, 1, 0, TO_THE_END, exclusive=False))
    locks.take(RecordLock(other, 2, 0, TO_THE_END, exclusive=False))
    locks.whole[first] = True
    descriptors.close(two)
    assert [lock.owner for lock in locks.records] == [other]
    descriptors.close(one)
    assert locks.whole == {first: True}
    descriptors.close(three)
    assert locks.whole == {}
