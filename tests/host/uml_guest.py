"""What runs as the only process of a user-mode Linux: the kernel's dm-crypt is put before the block device that has an image, and what is read through it is told.

    python uml_guest.py SECTORS CIPHER:KEY ...        the image of the n-th is on /dev/ubda, /dev/ubdb, ...; a line for each: "plain N SHA-256", at last "done"

Source: include/uapi/linux/dm-ioctl.h, Documentation/admin-guide/device-mapper/dm-crypt.rst of 6.1; drivers/md/dm-crypt.c, crypt_ctr.
"""

import ctypes
import errno
import fcntl
import os
import struct
import sys
import traceback
from hashlib import sha256
from pathlib import Path
from typing import TextIO

LIBC = ctypes.CDLL(None, use_errno=True)
POWER_OFF = 0x4321FEDC
FINIT_MODULE = 313  # x86-64
MODULES = ("cbc", "ecb", "twofish_generic", "dm-crypt")
CREATE, SUSPEND, LOAD = 3, 6, 9
HEAD = struct.Struct("=3I5iIIQ128s129s7x")  # struct dm_ioctl
TARGET = struct.Struct("=QQiI16s")  # struct dm_target_spec


def load(name: str) -> None:
    """A module and what it needs. What is built in, or loaded, is there already."""
    place = Path("/usr/lib/uml/modules", os.uname().release)
    for line in (place / "modules.dep").read_text().splitlines():
        module, _, needed = line.partition(":")
        if not module.endswith(f"/{name}.ko"):
            continue
        for path in (*reversed(needed.split()), module):
            with (place / path).open("rb") as file:
                if LIBC.syscall(FINIT_MODULE, file.fileno(), b"", 0) and ctypes.get_errno() != errno.EEXIST:
                    raise OSError(ctypes.get_errno(), f"cannot load {path}")


def ask(control: int, command: int, name: bytes, table: bytes = b"", targets: int = 0) -> int:
    """An ioctl of device-mapper: the device's number."""
    size = 16384
    head = HEAD.pack(4, 0, 0, size, HEAD.size, targets, 0, 0, 0, 0, 0, name, b"")
    data = bytearray((head + table).ljust(size, b"\0"))
    fcntl.ioctl(control, 3 << 30 | HEAD.size << 16 | 0xFD << 8 | command, data)
    return int(HEAD.unpack_from(data)[10])


def plain(number: int, sectors: int, cipher: str, key: str) -> bytes:
    """All of an image, through the kernel's dm-crypt."""
    name = b"image%d" % number
    control = os.open("/dev/mapper/control", os.O_RDWR)
    device = ask(control, CREATE, name)
    table = f"{cipher} {key} 0 /dev/ubd{chr(ord('a') + number)} 0".encode() + b"\0"
    table = table.ljust(-(-len(table) // 8) * 8, b"\0")
    ask(control, LOAD, name, TARGET.pack(0, sectors, 0, TARGET.size + len(table), b"crypt") + table, 1)
    ask(control, SUSPEND, name)  # which without its flag is resume
    node = f"/dev/{name.decode()}"
    os.mknod(node, 0o600 | 0o060000, os.makedev(device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00))
    return Path(node).read_bytes()


def main(sectors: int, wanted: list[str], told: TextIO) -> None:
    """Tell what is read of each."""
    LIBC.mount(b"dev", b"/dev", b"devtmpfs", 0, None)
    for module in MODULES:
        load(module)
    for number, words in enumerate(wanted):
        cipher, _, key = words.partition(":")
        told.write(f"plain {number} {sha256(plain(number, sectors, cipher, key)).hexdigest()}\n")
    told.write("done\n")


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), sys.argv[2:], sys.stdout)
    except Exception:  # noqa: BLE001  (whatever it is: a machine whose first process ends must be stopped)
        traceback.print_exc(file=sys.stdout)
    finally:
        sys.stdout.flush()
        LIBC.reboot(POWER_OFF)
