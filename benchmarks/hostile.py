"""`make hostile`: programs that mean harm, 1,000 of them from seeds, each on a small machine with bounds: how they end, and what of it is wrong.

Each run is a process of its own (forked from one that has imported everything), so that a crash of ours, or a run without an end, is seen and told by its seed. Programs to
be garbled are this machine's: a static busybox and a dynamic `true`, where they are.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from rmaplab.lab.hostile.run import KIND_NAMES, HostilePlace, run
from rmaplab.report.tables import console, new_table

RUNS, CPU_S, MOST_BYTES, MOST_RESIDENT = 1000, 60, 6 << 30, 1 << 30
WALL_A_CPU = 20
"""Others may be using the machine."""
STATIC, DYNAMIC = ("/usr/bin/busybox", "/bin/busybox"), "/usr/bin/true"
LOADER, LIBC = "/lib64/ld-linux-x86-64.so.2", ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6")
LONGEST = 4000


def samples() -> dict[str, bytes]:
    """Real programs of this machine, by where the root is to have them."""
    found = dict[str, bytes]()
    static = next((path for path in map(Path, STATIC) if path.is_file()), None)
    if static is not None:
        found["bin/busybox"] = static.read_bytes()
    libc = next((path for path in map(Path, LIBC) if path.is_file()), None)
    if libc is not None and Path(DYNAMIC).is_file() and Path(LOADER).is_file():
        found["bin/true"] = Path(DYNAMIC).read_bytes()
        found[LOADER] = Path(LOADER).read_bytes()
        found[str(libc)] = libc.read_bytes()
    return found


def alone(seed: int, place: HostilePlace, cpu_s: int) -> tuple[str, str, float]:
    """(kind of end, more about it, CPU seconds) of one run in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        with os.fdopen(write, "w") as report:
            faulthandler.enable(report)
            faulthandler.register(signal.SIGXCPU, report)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
            try:
                ended = run(seed, place)
                report.write(f"{ended.how}\n{ended.more}")
            except BaseException:  # noqa: BLE001
                report.write("FOUND\n" + traceback.format_exc()[-LONGEST:])
            report.flush()
        os._exit(0)
    os.close(write)
    parts, ends = list[bytes](), time.monotonic() + cpu_s * WALL_A_CPU
    while select.select([read], [], [], max(ends - time.monotonic(), 0))[0]:
        part = os.read(read, 1 << 16)
        if not part:
            break
        parts.append(part)
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    _, status, usage = os.wait4(child, 0)
    took = usage.ru_utime + usage.ru_stime
    how, _, more = b"".join(parts).decode(errors="replace").partition("\n")
    if status:
        return "FOUND", f"wait status {status:#x}: {how}\n{more}", took
    if usage.ru_maxrss << 10 > MOST_RESIDENT:
        return "FOUND", f"it has taken {usage.ru_maxrss >> 10} MiB of the host's memory: {how}", took
    return how, more, took


def main() -> None:
    """All seeds; exit with 1 if something was found."""
    parser = argparse.ArgumentParser(description="programs that mean harm")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how many (default {RUNS})")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seconds", type=int, default=CPU_S, help=f"CPU seconds that a run may take (default {CPU_S})")
    parser.add_argument("--kind", choices=KIND_NAMES, help="of one kind only")
    parser.add_argument("--verbose", action="store_true", help="tell how each run ends")
    options = parser.parse_args()
    ends, slow, found = Counter[tuple[str, str]](), list[tuple[float, int]](), 0
    above = Path(tempfile.mkdtemp(prefix="rmaplab-hostile-"))
    place = HostilePlace(above / "place", samples())
    try:
        for seed in range(options.first, options.first + options.runs):
            kind = KIND_NAMES[seed % len(KIND_NAMES)]
            if options.kind not in (None, kind):
                continue
            how, more, cpu_s = alone(seed, place, options.seconds)
            ends[kind, how] += 1
            slow.append((cpu_s, seed))
            if how == "FOUND":
                found += 1
                print(f"seed {seed} ({kind}): {more}", file=sys.stderr, flush=True)
            elif options.verbose:
                print(f"seed {seed} ({kind}): {how} {more} {cpu_s:.2f} s", flush=True)
    finally:
        shutil.rmtree(above)
    table = new_table(f"{sum(ends.values()):,} hostile runs", "kind|ended by|>runs")
    for (kind, how), nr in sorted(ends.items()):
        table.add_row(kind, how, f"{nr:,}")
    console().print(table)
    print("longest (CPU s, seed): " + ", ".join(f"{s:.1f} ({seed})" for s, seed in sorted(slow, reverse=True)[:5]))
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
