"""How long boxes take: the largest and the smallest boot, and the announcement's four levels on three kernels.

Boots are the best of some turns in a process that has booted before; memory is the growth of the resident set.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
import timeit
from pathlib import Path
from typing import Any

from rmaplab.kernels.system import boot
from rmaplab.report.tables import console, new_table
from rmaplab.units import format_size

TURNS = 5
LARGE_S, LARGE_BYTES = 0.3, 100_000_000
TINY_S = 0.002
LEVELS_S = 20.0
COMMAND = ["compare", "forkbench", "--levels", "6,7,8,9", "--kernels", "2.4.21,2.6.2,2.6.5-rc1-aa1", "--no-reclaim"]


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def boots() -> dict[str, Any]:
    """In this process: what the boots take, and what one large box adds."""
    boot("2.6.2", ram="1G")
    before = resident()
    system = boot("2.6.2", ram="64G")
    grown = resident() - before
    del system
    return {
        "small_s": min(timeit.repeat(lambda: boot("2.6.2", ram="1G"), number=1, repeat=TURNS)),
        "large_s": min(timeit.repeat(lambda: boot("2.6.2", ram="64G"), number=1, repeat=TURNS)),
        "large_bytes": grown,
        "tiny_s": min(timeit.repeat(lambda: boot("2.6.2", ram="1M", boot_use=0, pages_min=4), number=1, repeat=TURNS)),
    }


def main() -> None:
    """Measure, print the table. A bound that is not met is said and fails nothing."""
    child = subprocess.run([sys.executable, __file__, "boots"], check=True, capture_output=True, text=True)
    found = json.loads(child.stdout)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "rmaplab", *COMMAND], check=True, capture_output=True)
    levels_s = time.perf_counter() - began
    table = new_table(
        f"boxes: {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}; boots: best of {TURNS}",
        "what|>took|>may take|>host memory|>may add|",
    )
    rows = [
        ("boot 2.6.2 on 1 GiB", f"{found['small_s'] * 1e3:.1f} ms", "-", "-", "-", True),
        (
            "boot 2.6.2 on 64 GiB",
            f"{found['large_s'] * 1e3:.1f} ms",
            f"{LARGE_S * 1e3:.0f} ms",
            format_size(found["large_bytes"]),
            format_size(LARGE_BYTES),
            found["large_s"] <= LARGE_S and found["large_bytes"] <= LARGE_BYTES,
        ),
        (
            "boot 2.6.2 on 256 frames",
            f"{found['tiny_s'] * 1e3:.2f} ms",
            f"{TINY_S * 1e3:.0f} ms",
            "-",
            "-",
            found["tiny_s"] <= TINY_S,
        ),
        (
            f"rmaplab {' '.join(COMMAND)}",
            f"{levels_s:.1f} s",
            f"{LEVELS_S:.0f} s",
            "-",
            "-",
            levels_s <= LEVELS_S,
        ),
    ]
    for *cells, good in rows:
        table.add_row(*map(str, cells), "ok" if good else "not met")
    console().print(table)


if __name__ == "__main__":
    if sys.argv[1:] == ["boots"]:
        print(json.dumps(boots()))
    else:
        main()
