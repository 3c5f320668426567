"""What runs in the guest of benchmarks/kernels.py: `who`, `live` and `check --record`, beside memory that is known. One line of JSON.

kernels_guest.py FORK_TREE FORKS SCRIPTS: tests/host/fork_tree.py, tests/forks.c compiled, the number of random scripts to record.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks import page_tables
from rmaplab.cli import main

REGION, FIRST, EACH = 2 << 20, 8, 256
"""Of a region of so many bytes the first pages are asked about, and each so-manyth: huge memory is one with 513 of them."""


def at(what: str) -> None:
    """How far we are, for whoever reads the serial line of a guest that does not come to an end."""
    print(f"{time.monotonic():.0f} s: {what}", flush=True)


def rmaplab(*arguments: str) -> tuple[int, str, str]:
    """A command line of ours: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as error:
            code = error.code
    return int(str(code or 0)), out.getvalue(), err.getvalue()


def ask_who(pages: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    """`who` of an entry of each page: those whose mappers are not the truth, and how often the kernel's walk is not known."""
    wrong, unknown, asked = [], 0, 0
    met: Counter[int] = Counter()
    for label, mappers in sorted(pages.items()):
        pid, address = mappers[-1]
        met[address // REGION] += 1
        if met[address // REGION] > FIRST and met[address // REGION] % EACH:
            continue
        if asked % 10 == 0:
            at(f"{asked} pages asked about")
        asked += 1
        code, out, err = rmaplab("who", str(pid), f"{address:x}", "--format", "json")
        said = json.loads(out) if code == 0 else {"mappers": [], "mapcount": None, "candidates": None}
        found = sorted((each["pid"], each["address"]) for each in said["mappers"])
        unknown += said["candidates"] is None
        visited = {(each["pid"], each["address"]) for each in said["candidates"] or ()}
        if (
            found != mappers
            or said["mapcount"] != len(mappers)
            or not (visited >= set(mappers) or said["candidates"] is None)
        ):
            wrong.append(f"{label}: {found} for {mappers} {err.strip()}")
    return {"asked": asked, "wrong": wrong, "no_walk": unknown}


def ask_live(pids: list[int]) -> dict[str, Any]:
    """`live` of the family's tree beside its page tables; and the rung."""
    code, out, err = rmaplab("live", "--format", "json", "--top", "0")
    if code:
        return {"rung": None, "missing": [err.strip()], "wrong": [err.strip()]}
    said = json.loads(out)
    rows = {row["pid"]: row for row in said["processes"]}
    read = page_tables.read(pids)
    wrong = [f"pid {pid}: {rows[pid]['vmas']} VMAs of {nr}" for pid, nr in read.vmas.items() if rows[pid]["vmas"] != nr]
    if said["rung"] == 1:
        code, out, err = rmaplab("live", "--tree", "--pid", str(pids[0]), "--format", "json")
        walk: dict[str, Any] = json.loads(out)["walk"] if not code else {"sampled": None, "useful": {"max": None}}
        wrong += [err.strip()] if code else []
        if walk["sampled"] != len(read.frames):
            wrong.append(f"{walk['sampled']} anonymous pages of {len(read.frames)}")
        if walk["useful"]["max"] != int(read.mapcounts.max()):
            wrong.append(f"at most {walk['useful']['max']} mappings, not {int(read.mapcounts.max())}")
    return {"rung": said["rung"], "missing": said["missing"], "pages": len(read.frames), "wrong": wrong}


def ask_chains(program: str) -> list[str]:
    """A root and six children with four VMAs: 13 chains for each VMA, and walks of seven. What is not so."""
    with subprocess.Popen([program, "4", "6", "0", "1", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        root.stdout.readline()
        code, out, err = rmaplab("live", "--tree", "--pid", str(root.pid), "--format", "json")
        root.kill()
    if code:
        return [err.strip()]
    (tree,) = json.loads(out)["trees"]
    said = (tree["processes"], tree["chains"] % 13, tree["chains"] >= 4 * 13, tree["longest_walk"])
    return [] if said == (7, 0, True, 7) else [f"tree of 7, chains by 13, walks of 7: {said}"]


def run(fork_tree: str, forks: str, scripts: str) -> dict[str, Any]:
    """Everything, one after the other."""
    began = time.monotonic()
    at("Python runs")
    file = Path("/tmp/file")
    file.write_bytes(bytes(8 * 4096))
    program = [sys.executable, "-E", "-S", fork_tree, str(file)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as family:
        assert family.stdout is not None
        reports = json.loads(family.stdout.readline())
        pages = defaultdict(list)
        for _, pid, table in reports:
            for address, label in table:
                pages[label].append((pid, address))
        at("a family runs")
        live = ask_live([family.pid, *(pid for _, pid, _ in reports if pid != family.pid)])
        at("live has answered")
        who = ask_who({label: sorted(mappers) for label, mappers in pages.items()})
        family.kill()
    at("who has answered")
    if live["rung"] in (1, 2):
        live["wrong"] += ask_chains(forks)
    at("chains are counted")
    code, out, err = rmaplab("check", "--record", "/tmp/record.json", "--fuzz", scripts)
    record = Path("/tmp/record.json").read_text() if code == 0 else None
    return {
        "release": os.uname().release, "who": who, "live": live, "record": record,
        "check": (out + err).strip().splitlines(), "seconds": time.monotonic() - began,
    }  # fmt: skip


if __name__ == "__main__":
    print("RESULT " + json.dumps(run(*sys.argv[1:])), flush=True)
