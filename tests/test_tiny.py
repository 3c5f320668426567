"""The first file to read: boot, map, fork, who maps this page?"""

import pytest

import rmaplab


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1"])
def test_who_maps_this_page(kernel: str) -> None:
    """A page is shared after fork and private again after a write; the reverse map knows both times."""
    system = rmaplab.boot(kernel, ram="128M")
    parent = system.spawn()
    address = parent.mmap("64K")
    parent.write(address, b"hello")

    #   parent  [hello]----+
    #                      +--- one frame, read-only for both
    #   child   [hello]----+
    child = parent.fork()

    assert {(m.mm.pid, m.address) for m in system.who_maps(parent, address)} == {
        (parent.pid, address),
        (child.pid, address),
    }

    #   parent  [hello]
    #   child   [Jello]    a copy, made when it wrote
    child.write(address, b"J")

    assert [m.mm.pid for m in system.who_maps(parent, address)] == [parent.pid]
    assert [m.mm.pid for m in system.who_maps(child, address)] == [child.pid]
    assert parent.read(address, 5) == b"hello"
    assert child.read(address, 5) == b"Jello"

    system.check()
    child.exit(3)
    assert parent.wait() == (child.pid, 3)
    parent.exit()
    system.check()
    assert not system.kernel.tasks
