"""Packets of gdb's remote serial protocol, on a socket.

    $qSupported:swbreak+#5e   ->   +          a checksum of two digits; "+" and "-" until QStartNoAckMode
    0x03                                      gdb wants it to stop

What is no packet is passed over, as on a serial line; what has a wrong checksum is asked for again.

Source: "Debugging with GDB", E.1 Overview, E.9 Interrupts.
"""

import select
import socket

PACKET_BYTES = 1 << 16
"""Longer ones are passed over; gdb is told of it (PacketSize)."""
INTERRUPT = b"\x03"
_ESCAPED = (0x23, 0x24, 0x2A, 0x7D)  # # $ * }


class GdbHasGone(Exception):
    """Nobody is at the other end any more."""


def checksum(data: bytes) -> int:
    """Of what stands between $ and #."""
    return sum(data) & 0xFF


def escape(data: bytes) -> bytes:
    """Binary data as a packet has it."""
    return b"".join(bytes((0x7D, byte ^ 0x20)) if byte in _ESCAPED else bytes((byte,)) for byte in data)


def unescape(data: bytes) -> bytes:
    """The same the other way round; a "}" at the end has nothing to say."""
    out, rest = bytearray(), iter(data)
    for byte in rest:
        if byte != 0x7D:
            out.append(byte)
        elif (after := next(rest, None)) is not None:
            out.append(after ^ 0x20)
    return bytes(out)


class GdbWire:
    """One connection. Raises GdbHasGone whenever it has ended."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._got = bytearray()
        self._last = b""
        self.acknowledges = True

    def fileno(self) -> int:
        """For select()."""
        return self._socket.fileno()

    def close(self) -> None:
        """Nothing more is sent."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """One packet, of what is escaped already."""
        self._last = b"$" + data + b"#%02x" % checksum(data)
        self._write(self._last)

    def receive(self) -> bytes:
        """The next packet, without its frame, or INTERRUPT. Waits for it."""
        while (packet := self._next()) is None:
            self._read()
        return packet

    def poll(self) -> bytes | None:
        """The next one if it is there already."""
        while (packet := self._next()) is None:
            if not select.select([self._socket], [], [], 0)[0]:
                return None
            self._read()
        return packet

    def _next(self) -> bytes | None:
        got = self._got
        while got:
            if got[0] == INTERRUPT[0]:
                del got[0]
                return INTERRUPT
            if got[0] != ord("$"):
                if got[0] == ord("-") and self.acknowledges:
                    self._write(self._last)
                del got[0]
                continue
            end = got.find(b"#", 1)
            again = got.find(b"$", 1, end if end >= 0 else len(got))
            if again >= 0:  # one that was broken off
                del got[:again]
                continue
            if end < 0 or len(got) < end + 3:
                if len(got) > PACKET_BYTES + 4:
                    got.clear()
                return None
            data, said = bytes(got[1:end]), bytes(got[end + 1 : end + 3])
            del got[: end + 3]
            if not self.acknowledges:
                return data
            if said.lower() == b"%02x" % checksum(data):
                self._write(b"+")
                return data
            self._write(b"-")
        return None

    def _read(self) -> None:
        try:
            more = self._socket.recv(PACKET_BYTES)
        except OSError:
            more = b""
        if not more:
            raise GdbHasGone
        self._got += more

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise GdbHasGone from None
