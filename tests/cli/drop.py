"""A program for tests: `rmaplab ARGUMENTS...` with some capabilities only. drop.py user|CAPABILITIES ARGUMENTS...

Everything is imported first: another user may not read where it is installed.
"""

import ctypes
import os
import struct
import sys
from importlib import (
    import_module,
    readers,  # noqa: F401  (importlib.resources wants it, late)
)

from rmaplab.cli import main
from rmaplab.kernels.designs import OURS, load_design

for module in ("cli.live", "cli.work.live", "cli.who", "cli.work.who"):
    import_module(f"rmaplab.{module}")
for path in OURS.values():
    load_design(path)
for late in ("csv", "difflib", "json", "rich.console", "shutil", "tempfile"):
    import_module(late)
if sys.argv[1] == "user":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
else:
    kept = sum(1 << int(number) for number in sys.argv[1].split(",") if number)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header, sets = struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", low, low, 0, high, high, 0)
    if ctypes.CDLL(None).capset(header, sets):
        sys.exit("capset failed")
main(sys.argv[2:])
