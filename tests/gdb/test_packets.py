"""Packets come out of a stream as they were put in, whatever is between them."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.gdb.packets import INTERRUPT, PACKET_BYTES, GdbHasGone, GdbWire, checksum, escape, unescape


@pytest.fixture
def ends() -> Iterator[tuple[GdbWire, socket.socket]]:
    """Ours, and gdb's."""
    here, there = socket.socketpair()
    with here, there:
        yield GdbWire(here), there


def framed(data: bytes) -> bytes:
    return b"$" + data + b"#%02x" % checksum(data)


@given(st.binary(max_size=200))
def test_escaping(data: bytes) -> None:
    """Nothing that ends or begins a packet is left in it, and it comes back."""
    assert unescape(escape(data)) == data
    assert not set(escape(data)) & set(b"#$*")


def test_rubbish_is_passed_over(ends: tuple[GdbWire, socket.socket]) -> None:
    """Bytes between packets, a packet that was broken off, Ctrl-C."""
    wire, gdb = ends
    gdb.sendall(b"+rubbish" + framed(b"g") + b"$m12" + framed(b"m0,4") + b"\x03" + framed(b""))
    assert [wire.receive() for _ in range(4)] == [b"g", b"m0,4", INTERRUPT, b""]
    assert gdb.recv(100) == b"+++"
    assert wire.poll() is None


def test_a_wrong_checksum_is_asked_for_again(ends: tuple[GdbWire, socket.socket]) -> None:
    """Until nobody acknowledges any more."""
    wire, gdb = ends
    gdb.sendall(b"$g#00" + framed(b"?"))
    assert wire.receive() == b"?"
    assert gdb.recv(100) == b"-+"
    wire.send(b"S05")
    gdb.recv(100)
    gdb.sendall(b"-")
    assert wire.poll() is None
    assert gdb.recv(100) == framed(b"S05")
    wire.acknowledges = False
    gdb.sendall(b"$g#00")
    assert wire.receive() == b"g"


def test_a_packet_without_an_end(ends: tuple[GdbWire, socket.socket]) -> None:
    """It does not grow for ever."""
    wire, gdb = ends
    for _ in range(4):
        gdb.sendall(b"$" + b"a" * (PACKET_BYTES // 2))
        assert wire.poll() is None
    assert len(wire._got) <= PACKET_BYTES + 5
    gdb.sendall(framed(b"g"))
    assert wire.receive() == b"g"


def test_the_other_end_has_gone(ends: tuple[GdbWire, socket.socket]) -> None:
    """Reading and writing say so."""
    wire, gdb = ends
    gdb.close()
    for _ in range(2):
        with pytest.raises(GdbHasGone):
            wire.receive()
        with pytest.raises(GdbHasGone):
            wire.send(b"OK")
