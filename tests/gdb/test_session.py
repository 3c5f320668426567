"""A client that says what it wants: how a run stands still, goes on, and is as if nobody had been there when gdb has gone."""

from __future__ import annotations

import random
import re
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.gdb.world import Client, beside

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import KilledByDebugger, UsageError
from rmaplab.gdb import probes
from rmaplab.gdb.session import Session
from rmaplab.kernels.system import System

SMALL: dict[str, Any] = {"ram": "32M", "boot_use": "2M"}


def family(task: Task) -> None:
    """Two children, each of whom writes to a page of its parent's; then they are waited for."""
    address = task.mmap("64K")
    task.write(address, b"parent")
    for number in range(2):
        task.fork(lambda child, number=number: child.write(address, b"child%d" % number))  # type: ignore[misc]
    for _ in range(2):
        task.wait()
    task.munmap(address, "64K")


def families(task: Task) -> None:
    """Forty of them."""
    for _ in range(40):
        family(task)


def run(client: Client, kernel: str = "2.6.5-rc1-aa1", **options: Any) -> tuple[System, Session]:
    """The family, with a client beside it, to its end."""
    system = rmaplab.boot(kernel, **(SMALL | options))
    system.spawn(family)
    session = beside(system, client, "family")
    try:
        system.run()
    finally:
        session.end(7)
        client.join()  # raises what it has met
    return system, session


def counts(system: System) -> tuple[dict[str, int], int]:
    """What was counted, and when it was over."""
    return dict(system.machine.ledger.counts), system.machine.sched.now_ns


def alone(**options: Any) -> tuple[dict[str, int], int]:
    """The same without anybody beside it."""
    system = rmaplab.boot("2.6.5-rc1-aa1", **(SMALL | options))
    system.spawn(family)
    system.run()
    return counts(system)


def test_it_stands_still_and_goes_on() -> None:
    """Threads, memory, a point; then on to the end, of which gdb is told."""

    def talk(gdb: Client) -> None:
        assert b"PacketSize" in gdb.ask(b"qSupported:swbreak+")
        assert gdb.ask(b"?").startswith(b"T05thread:1;")
        assert gdb.ask(b"qfThreadInfo") == b"m1"
        assert gdb.ask(b"qsThreadInfo") == b"l"
        assert b'name="family"' in gdb.ask(b"qXfer:threads:read::0,1000")
        assert bytes.fromhex(gdb.ask(b"qThreadExtraInfo,1").decode()) == b"family: on CPU 0"
        assert set(gdb.ask(b"g")) == {ord("0"), ord("f")}
        gdb.monitor("break fork")
        assert gdb.ask(b"c").startswith(b"T05thread:1;")
        assert "family 1 at fork(parent pid 1" in gdb.console
        address = re.search(r"([0-9a-f]+)-[0-9a-f]+ rw", gdb.monitor("vmas"))
        assert address is not None
        place = address[1].encode()
        assert bytes.fromhex(gdb.ask(b"m" + place + b",6").decode()) == b"parent"
        assert gdb.ask(b"m%x,4" % (int(place, 16) + 0x8000)) == b"E0e"
        assert gdb.ask(b"M" + place + b",6:504152454e54") == b"OK"
        assert gdb.ask(b"X" + place + b",1:p") == b"OK"
        assert gdb.ask(b"x" + place + b",6") == b""
        assert gdb.ask(b"c").startswith(b"T05thread:1;")
        gdb.monitor("delete fork")
        told = gdb.monitor(f"rmap {place.decode()}")
        assert all(words in told for words in ("frame", '"pARENT"', "as in the page tables"))
        assert gdb.ask(b"vCont;c") == b"W07"

    run(client := Client(talk))
    assert client.lines == [f"waits for gdb: target remote 127.0.0.1:{client.lines[0].rpartition(':')[2]}"]


@pytest.mark.parametrize("last", [b"D", b"D;1", b""], ids=["detaches", "detaches by number", "vanishes"])
@pytest.mark.parametrize("cpus", [1, 4])
def test_nothing_is_left_behind(last: bytes, cpus: int) -> None:
    """The run ends as it would have, to the count and the nanosecond; no probe, no listener, no engine of ours stays."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.monitor("break fork")
        gdb.monitor("break do_exit")
        for line in ("tasks", "locks", "lru", "ledger", "kernel", "vmas", "page 3", "rmap 40000000", "pte 40000000"):
            assert gdb.monitor(line)
        gdb.ask(b"c")
        for line in ("tasks", "locks", "lru", "vmas", "rmap 40000000"):
            assert gdb.monitor(line)
        gdb.ask(b"Z0,40000000,1")
        if last:
            assert gdb.ask(last) == b"OK"

    system, session = run(client := Client(talk), cpus=cpus)
    assert counts(system) == alone(cpus=cpus)
    assert client.lines[-1] == (
        "gdb has detached: the run goes on" if last else "gdb has gone: the run goes on without it"
    )
    assert (probes.nr_probed(), system.machine.watched, system.before_engine) == (0, False, None)
    assert not session.is_attached
    system.check()


def test_a_second_gdb_may_come() -> None:
    """While the run goes on somebody else may look."""
    talks = list[str]()

    def first(gdb: Client) -> None:
        gdb.ask(b"?")
        talks.append("first")
        gdb.ask(b"D")

    def second(gdb: Client) -> None:
        assert gdb.ask(b"?").startswith(b"T05")
        talks.append("second")
        assert gdb.ask(b"c") == b"W07"

    one, two = Client(first), Client(second)

    def tell(line: str) -> None:
        one.tell(line)
        if "detached" in line:
            two.tell(f"target remote 127.0.0.1:{session.port}")
            while not two.has_called:
                pass

    system = rmaplab.boot("2.6.7", **SMALL)
    system.spawn(lambda task: task.touch(task.mmap("16M"), "16M", write=True))
    session = Session(system, "big", port=0, tell=tell)
    system.run()
    session.end(7)
    one.join()
    two.join()
    assert talks == ["first", "second"]


def test_the_end_of_a_run_by_kill() -> None:
    """One exception comes out of run(), and nothing is left behind."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.monitor("break fork")
        gdb.ask(b"c")
        gdb.send(b"k")

    system = rmaplab.boot("2.6.7", **SMALL)
    system.spawn(family)
    session = beside(system, client := Client(talk))
    with pytest.raises(KilledByDebugger, match="gdb has killed it"):
        system.run()
    session.end(1)
    client.join()
    system.close()
    assert not probes.nr_probed()
    assert not system.machine.watched


def test_steps_in_the_kernel_go_from_point_to_point() -> None:
    """Of that thread alone; `monitor step` of whoever comes next."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.monitor("break fork")
        gdb.ask(b"c")
        for _ in range(5):
            assert gdb.ask(b"vCont;s:1;c").startswith(b"T05thread:1;")
        assert gdb.console.count("family 1 comes to ") >= 5
        assert "mmap_sem" in gdb.console
        gdb.monitor("delete fork")
        assert "next point" in gdb.monitor("step")
        assert gdb.ask(b"c").startswith(b"T05")
        gdb.ask(b"D")

    system, _ = run(Client(talk))
    system.check()


def test_reclaim_stops_page_by_page() -> None:
    """try_to_unmap, with the page's mappings as they are before; memory is short."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.monitor("break try_to_unmap")
        pages = list[str]()
        for _ in range(3):
            assert gdb.ask(b"c").startswith(b"T05")
            page = re.findall(r"try_to_unmap\(walk of page (\d+)", gdb.console)[-1]
            told = gdb.monitor(f"page {page}")
            assert "mapcount 1" in told
            assert "as in the page tables" in told
            assert "is held" in gdb.monitor("locks")
            pages.append(page)
        assert len(set(pages)) == 3
        assert re.search(r"NORMAL +\d", gdb.monitor("lru"))
        gdb.ask(b"D")

    system = rmaplab.boot("2.6.5-rc1-aa1", ram="24M", swap="32M", boot_use="2M", reclaim=True)
    system.spawn(lambda task: task.touch(task.mmap("28M"), "28M", write=True))
    session = beside(system, client := Client(talk))
    system.run()
    session.end(0)
    client.join()
    assert system.machine.ledger.counts["pswpout"]
    system.check()


def test_monitor_refuses_in_a_line() -> None:
    """What is no command, no number, no function."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        for line in (
            "nothing", "page", "page x", "page -1", "page 99999999999999", "pte zzz", "rmap 1 2", "break nothing", "delete fork", "phys 0 99999", "phys fffffffffffffff",
            "rmap 0xffffffffffffffff", "pte ffffffff", "rmap 10000000000000000", "_break", "__class__", "",
        ):  # fmt: skip
            told = gdb.monitor(line)
            assert told.endswith("\n"), line
        assert "did you mean" in gdb.monitor("taks")
        assert "try_to_unmap" in gdb.monitor("break")
        gdb.ask(b"D")

    run(Client(talk))


@pytest.mark.parametrize("seed", range(4))
def test_random_packets(seed: int) -> None:
    """A thousand in all, some of them garbled: each is answered or passed over, and the run comes to its end, or is killed by one that says so."""
    draw = random.Random(seed)
    kinds = [
        b"g", b"G%s", b"p%x", b"P%x=%s", b"m%x,%x", b"M%x,%x:%s", b"X%x,%x:%r", b"Hg%x", b"Hc%x", b"H%r", b"T%x", b"Z%x,%x,%x", b"z%x,%x,%x", b"qXfer:%r:read:%r:%x,%x",
        b"qXfer:features:read:target.xml:%x,%x", b"qXfer:threads:read::%x,%x", b"qXfer:auxv:read::%x,%x", b"qXfer:exec-file:read:%x:%x,%x", b"qRcmd,%s", b"qRcmd,%r",
        b"qThreadExtraInfo,%x", b"vCont;%r", b"vCont;s:%x;c", b"vCont;r%x,%x:%x", b"vCont?", b"v%r", b"q%r", b"Q%r", b"%r", b"s%x", b"S%x", b"C%x;%x", b"c%x",
    ]  # fmt: skip

    def filled(kind: bytes) -> bytes:
        def word(match: re.Match[bytes]) -> bytes:
            if match[0] == b"%x":
                return b"%x" % draw.choice([0, 1, 2, 5, 0x40000000, draw.getrandbits(draw.choice((4, 32, 64, 90)))])
            raw = draw.randbytes(draw.choice((0, 1, 7, 40)))
            return raw.hex().encode() if match[0] == b"%s" else re.sub(rb"[#$}*]", b"", raw)

        return re.sub(rb"%[xsr]", word, kind)

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        for _ in range(250):
            packet = filled(draw.choice(kinds))
            if draw.random() < 0.1:
                gdb.raw(draw.choice([b"$" + packet + b"#zz", b"\x03", b"-", b"+", draw.randbytes(9), b"$" + packet]))
                continue
            answer = gdb.ask(packet)
            if answer[:1] == b"W" or (not answer and gdb.is_over()):
                return
        gdb.send(b"D")

    system = rmaplab.boot("2.6.5-rc1-aa1", **SMALL)
    system.spawn(families)
    session = beside(system, client := Client(talk))
    try:
        system.run()
    except KilledByDebugger:
        pass
    else:
        system.check()
    session.end(0)
    client.join()
    assert not probes.nr_probed()


def test_where_nobody_can_listen() -> None:
    """One line that says what to try."""
    system = rmaplab.boot("2.6.7", **SMALL)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(UsageError, match=r"cannot listen for gdb on 127\.0\.0\.1:.*try another port"),
    ):
        system.gdb(other.getsockname()[1])
    with pytest.raises(UsageError, match="cannot listen"):
        system.gdb(0, host="no.such.host.invalid")
    with pytest.raises(UsageError, match="cannot listen"):
        system.gdb(1 << 20)
    for host in ("\udcff", "x.\u3002", "no" * 40 + "\u00e9", "\0"):
        with pytest.raises(UsageError, match="cannot listen"):
            system.gdb(0, host=host)
    for words in ({"port": "1234"}, {"port": None}, {"port": 0, "host": None}):
        with pytest.raises(UsageError, match="give a host's name and a port's number"):
            system.gdb(**words)


def test_what_programs_write_is_not_obeyed() -> None:
    """Bytes of a page, where they are shown."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.monitor("break munmap")
        gdb.ask(b"c")
        told = gdb.monitor("rmap 40000000")
        assert "31m" in told
        assert not set(told) & set("\x1b\x07")
        gdb.ask(b"D")

    system = rmaplab.boot("2.6.7", **SMALL)

    def program(task: Task) -> None:
        address = task.mmap("4K", address=0x4000_0000)
        task.write(address, b"\x1b[31m\x07")
        task.munmap(address, "4K")

    system.spawn(program)
    session = beside(system, client := Client(talk))
    system.run()
    session.end(0)
    client.join()


def test_who_is_no_gdb_does_not_start_the_run() -> None:
    """A browser, somebody who says nothing: the run waits on, until one has come."""
    strangers = list[bytes]()

    def talk(gdb: Client) -> None:
        assert gdb.ask(b"?").startswith(b"T05")
        assert gdb.ask(b"c") == b"W00"

    client = Client(talk)

    def tell(line: str) -> None:
        client.lines.append(line)
        port = session.port
        if len(strangers) < 3:
            strangers.append((b"GET / HTTP/1.1\r\n\r\n", b"", random.Random(1).randbytes(3000))[len(strangers)])
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(strangers[-1].replace(b"$", b""))
        elif len(strangers) == 3:
            strangers.append(b"")
            client.tell(f"target remote 127.0.0.1:{port}")

    system = rmaplab.boot("2.6.7", **SMALL)
    system.spawn(family)
    session = Session(system, "family", port=0, tell=tell)
    system.run()
    session.end(0)
    client.join()
    assert client.lines[1:4] == ["that was no gdb"] * 3


def test_one_debugger_at_a_time() -> None:
    """Two would take each other's breakpoints away; when one has ended another may begin."""
    system = rmaplab.boot("2.6.7", **SMALL)
    session = system.gdb(0)
    with pytest.raises(UsageError, match="already"):
        system.gdb(0)
    session.end()
    port = session.port
    again = system.gdb(port)
    assert again.port == port
    again.end()


def test_who_watches_goes_on_watching() -> None:
    """A listener of System.watch hears every point, also while gdb listens, and after."""

    def heard(talk: Callable[[Client], None] | None) -> Counter[str]:
        names = Counter[str]()
        system = rmaplab.boot("2.6.7", **SMALL)
        system.watch(lambda point: names.update([point.name]))
        system.spawn(family)
        session = None if talk is None else beside(system, client := Client(talk))
        system.run()
        if session is not None:
            session.end()
            client.join()
        assert system.machine.watched
        return names

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.monitor("break try_to_unmap")
        for _ in range(3):
            gdb.monitor("step")
            assert gdb.ask(b"c").startswith(b"T05")
        gdb.ask(b"D")

    assert heard(talk) == heard(None) != Counter()


def test_two_systems_in_a_process() -> None:
    """A probe stops the one that it is of."""

    def talk(gdb: Client) -> None:
        gdb.ask(b"?")
        gdb.monitor("break do_munmap")
        other = rmaplab.boot("2.6.7", **SMALL).spawn()
        other.munmap(other.mmap("4K"), "4K")
        assert gdb.ask(b"c").startswith(b"T05")
        gdb.ask(b"D")

    run(client := Client(talk))
    assert client.console.count("do_munmap(") == 1
