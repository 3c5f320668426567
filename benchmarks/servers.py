"""`make servers`: `rmaplab live` beside servers that fork, from Debian's packages, and what a look costs them.

    PostgreSQL under pgbench, Redis while it saves, gunicorn that preloads an application
        stopped (SIGSTOP)   VMAs and anonymous pages of the tree = those in its page tables (page_tables.py), to the page
        running             within 1 % of what the page tables say before and after
    pgbench, five alternating pairs: transactions a second with `live --watch` looking every 10 s, and without: at least 0.97 x

As root: the page tables, and to become who a server runs as. Data in a temporary directory, unix sockets only; everything is ended. A
server that is not installed is said in a line: apt-get install postgresql redis-server gunicorn. Some five minutes.
"""

import argparse
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import page_tables

LOOK_EVERY_S, NEAR, AT_LEAST = 10, 0.01, 0.97
APP = """
configuration = {f"key {i}": [i] * 4 for i in range(200_000)}

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(configuration["key 77"])).encode()]
"""


class Missing(Exception):
    """A server that is not installed; in one line."""


def find(name: str, package: str, *places: Path) -> str:
    """A program, in one of these places or on PATH. Raises Missing."""
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(f"{name} is not installed: apt-get install {package}")
    return found


@contextlib.contextmanager
def running(command: list[str], folder: Path, user: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own; at the end it is killed with all that it has started."""
    log = (folder / "log").open("ab")
    ids: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **ids
    )
    try:
        yield process
    finally:
        for pid in tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        log.close()


def tree(root: int) -> list[int]:
    """A process and all that descend from it, by /proc/PID/stat."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                )
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def wait_for(ready: Callable[[], object], what: str) -> None:
    """Until it is so; not for ever."""
    end = time.monotonic() + 60
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"make servers: {what} did not come about in a minute")
        time.sleep(0.1)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """A database that pgbench has filled: its postmaster, and pgbench's command line without its duration."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb, server, pgbench = (find(name, "postgresql", *places) for name in ("initdb", "postgres", "pgbench"))
    data, user = folder / "data", "postgres"
    data.mkdir()
    for path in (folder, data):
        shutil.chown(path, user)
    quiet: dict[str, Any] = {"capture_output": True, "cwd": folder, "user": user}
    subprocess.run([initdb, "-D", data, "-A", "trust", "--no-sync"], check=True, **quiet)
    settings = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "shared_buffers=64MB")
    command = [server, "-D", str(data), *(word for setting in settings for word in ("-c", setting))]
    with running(command, folder, user) as postmaster:
        wait_for((folder / ".s.PGSQL.5432").exists, "PostgreSQL")
        asked = [pgbench, "-h", str(folder), "-U", user]
        wait_for(
            lambda: (
                not subprocess.run([*asked, "-i", "-s", "5", "postgres"], capture_output=True, check=False).returncode
            ),
            "pgbench -i",
        )
        yield postmaster.pid, [*asked, "-S", "-c", "10", "-j", "2", "postgres"]


@contextlib.contextmanager
def postgres_under_load(folder: Path) -> Iterator[int]:
    """PostgreSQL with ten clients."""
    with postgres(folder) as (pid, pgbench), running([*pgbench, "-T", "300"], folder):
        wait_for(lambda: len(tree(pid)) > 12, "ten clients")
        time.sleep(3)
        yield pid


@contextlib.contextmanager
def redis_saving(folder: Path) -> Iterator[int]:
    """Redis with 200,000 keys, whose child writes them to disk, slowly, while some are set."""
    server, client, load = (find(f"redis-{name}", "redis-server") for name in ("server", "cli", "benchmark"))
    socket = str(folder / "socket")
    command = [
        server,
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--save",
        "",
        "--enable-debug-command",
        "yes",
        "--rdb-key-save-delay",
        "500",
    ]
    with running(command, folder) as redis:
        wait_for(Path(socket).exists, "Redis")
        for words in (["debug", "populate", "200000", "key", "200"], ["bgsave"]):
            subprocess.run([client, "-s", socket, *words], check=True, capture_output=True)
        wait_for(lambda: len(tree(redis.pid)) == 2, "a child that saves")
        with running([load, "-s", socket, "-t", "set", "-r", "20000", "-n", "20000", "-c", "4", "-q"], folder):
            time.sleep(2)
            yield redis.pid


@contextlib.contextmanager
def gunicorn_preloading(folder: Path) -> Iterator[int]:
    """Four workers that have inherited an application's data."""
    program = find("gunicorn", "gunicorn")
    (folder / "app.py").write_text(APP)
    with running([program, "--preload", "-w", "4", "-b", f"unix:{folder}/socket", "app:app"], folder) as master:
        wait_for(lambda: len(tree(master.pid)) == 5, "four workers")
        time.sleep(1)
        yield master.pid


def look(pid: int) -> tuple[int, int]:
    """VMAs and anonymous pages of a process's fork tree, as `rmaplab live` says."""
    command = [sys.executable, "-m", "rmaplab", "live", "--tree", "--pid", str(pid), "--format", "json"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return said["trees"][0]["vmas"], said["walk"]["sampled"]


def stop(pids: list[int]) -> None:
    """All of them, and until they have."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    states = [Path(f"/proc/{pid}/stat") for pid in pids]
    wait_for(
        lambda: all(path.read_text(errors="replace").rpartition(")")[2].split()[0] == "T" for path in states), "a stop"
    )


def compare(name: str, server: Callable[[Path], contextlib.AbstractContextManager[int]]) -> bool:
    """A server's line. Whether its figures are as they must be, stopped and running."""
    with tempfile.TemporaryDirectory(prefix="rmaplab-servers-") as folder, server(Path(folder)) as pid:
        before = page_tables.read(tree(pid))
        _, pages = look(pid)
        after = page_tables.read(tree(pid))
        truth = (len(before.frames) + len(after.frames)) / 2
        off = pages / truth - 1
        pids = tree(pid)
        stop(pids)
        try:
            vmas, stopped = look(pid)
            read = page_tables.read(pids)
        finally:
            for each in pids:
                os.kill(each, signal.SIGCONT)
        exact = (vmas, stopped) == (sum(read.vmas.values()), len(read.frames))
        near = abs(off) <= NEAR
        print(
            f"{name:<24} {len(pids):>3} processes  stopped: {vmas:,} VMAs of {sum(read.vmas.values()):,}, {stopped:,} pages of "
            f"{len(read.frames):,}: {'exact' if exact else 'NOT EXACT'}   running: {off:+.2%}{'' if near else ' TOO FAR'}",
            flush=True,
        )
    return exact and near


def price(pairs: int, seconds: int) -> bool:
    """Pgbench with and without a look every ten seconds. Whether it keeps enough of its speed."""
    ratios = []
    with tempfile.TemporaryDirectory(prefix="rmaplab-servers-") as name, postgres(Path(name)) as (_, pgbench):
        folder = Path(name)
        for nth in range(pairs):
            rates = {}
            for watched in (True, False) if nth % 2 else (False, True):
                rates[watched] = _transactions(pgbench, seconds, folder, watched=watched)
            ratios.append(rates[True] / rates[False])
            print(
                f"  pair {nth + 1}: {rates[False]:,.0f} tps without, {rates[True]:,.0f} with a look every {LOOK_EVERY_S} s: {ratios[-1]:.3f}",
                flush=True,
            )
    found = statistics.geometric_mean(ratios)
    print(f"pgbench with live, of without: {found:.3f} (at least {AT_LEAST})")
    return found >= AT_LEAST


def _transactions(pgbench: list[str], seconds: int, folder: Path, *, watched: bool) -> float:
    command = [sys.executable, "-m", "rmaplab", "live", "--watch", "--interval", str(LOOK_EVERY_S)]
    looks = Path(tempfile.mkdtemp(dir=folder))
    with running(command, looks) if watched else contextlib.nullcontext():
        if watched:  # it runs already: what is asked for is the price of a look, not that of Python's start
            wait_for(lambda: " VMAs" in (looks / "log").read_text(errors="replace"), "a look")
        done = subprocess.run([*pgbench, "-T", str(seconds)], check=True, capture_output=True, text=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None
    return float(found[1])


def main() -> None:
    """All of it; exit code 1 if a figure is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="runs of pgbench with and without (0: none)")
    parser.add_argument("--seconds", type=int, default=25, help="how long each of them takes")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    if os.geteuid():
        sys.exit("make servers: it needs root, to read page tables and to become who a server runs as")
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} CPUs, load {load:.1f} before it began{': not a quiet machine' if load > 0.5 else ''}",
        flush=True,
    )
    good = True
    for name, server in (
        ("PostgreSQL, pgbench", postgres_under_load),
        ("Redis, saving", redis_saving),
        ("gunicorn, preloaded", gunicorn_preloading),
    ):
        try:
            good &= compare(name, server)
        except Missing as error:
            print(f"{name:<24} {error}", flush=True)
    if asked.pairs:
        try:
            good &= price(asked.pairs, asked.seconds)
        except Missing as error:
            print(f"pgbench: {error}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
