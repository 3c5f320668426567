"""Queues of futexes are there as long as somebody waits in them, however that ends."""

from pathlib import Path

from tests.cpu.files.world import Caller, World

from rmaplab.cpu.userland import Userland


class Sleepy(Caller):
    """It stays in the queue that it was put into."""

    def stands_in(self, queue: object) -> None:
        self.queue = queue


def test_a_queue_is_forgotten_with_the_last_who_waits(tmp_path: Path) -> None:
    """After a timeout, too, where nobody has woken anybody."""
    world = World(tmp_path)
    userland = Userland(world.system, world.tree)
    known, sleeper = userland._futexes, Sleepy()
    queue = userland.futex((1, 4))
    queue.sleepers[sleeper] = None
    assert userland.futex((1, 4)) is queue
    assert userland.futex_requeue((1, 4), (1, 4), 5) == 1
    assert userland.futex_requeue((1, 4), (1, 8), 5) == 1
    del queue
    assert set(known) == {(1, 8)}
    assert userland.futex_wake((1, 8), 1) == 1
    del sleeper
    assert not known
