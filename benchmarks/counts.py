"""`make counts`: anon_vmas and chains that fork trees allocate, on kernel 6.18 here and on the Linux below, side by side.

    flat          n children alive together      F + Fn anon_vmas, F + 2Fn chains
    chain         D processes, each the child of the one before, all alive      F D anon_vmas, F D (D + 1) / 2 chains
    generations   the same, each exits before its child forks                   anon_vmas are reused

F areas, one written page each. The host's are counted by perf (kmem:kmem_cache_alloc, by cache name; needs root); what the program
itself needs drops out as the difference between two numbers of areas. Other kernels than 6.x have other rules.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import rmaplab
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.report.tables import console, new_table

AREAS, FEWER = 11, 1
CASES = [("flat", 1), ("flat", 20), ("flat", 50), ("chain", 5), ("chain", 20), ("chain", 50)]
CASES += [("generations", 2), ("generations", 3), ("generations", 10), ("generations", 50)]
SOURCE = Path(__file__).with_name("forkshapes.c")


class Counts(NamedTuple):
    """Objects allocated."""

    anon_vmas: int
    chains: int


def model(shape: str, areas: int, nr: int) -> Counts:
    """On kernel 6.18 of this house."""
    system = rmaplab.boot("6.18", ram="1G")
    task = system.spawn()
    for i in range(areas):
        address = 0x1_0000_0000 + i * 8192
        task.mmap(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, address)
        task.write(address, b"x")
    if shape == "flat":
        for _ in range(nr):
            task.fork()
    else:
        for _ in range(nr - 1):
            child = task.fork()
            if shape == "generations":
                task.exit()
            task = child
    system.check()
    counts = system.machine.ledger.counts
    return Counts(counts["anon_vma_alloc"], counts["anon_vma_chain_link"])


def host(program: Path, data: Path, shape: str, areas: int, nr: int) -> Counts:
    """On the Linux below."""
    name = 'name == "anon_vma" || name == "anon_vma_chain"'
    record = ["perf", "record", "-q", "-m", "4096", "-e", "kmem:kmem_cache_alloc", "--filter", name, "-o", str(data)]
    subprocess.run([*record, "--", str(program), shape, str(areas), str(nr)], check=True, stderr=subprocess.PIPE)
    script = ["perf", "script", "-i", str(data), "-F", "trace"]
    lines = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()
    found = Counter(word for line in lines for word in line.split() if word in ("name=anon_vma", "name=anon_vma_chain"))
    return Counts(found["name=anon_vma"], found["name=anon_vma_chain"])


def main() -> None:
    """Exit with 1 if the two differ."""
    parser = argparse.ArgumentParser(description="anon_vma and anon_vma_chain objects of fork trees, model and host")
    parser.add_argument("--model-only", action="store_true", help="without perf and root")
    with_host = not parser.parse_args().model_only
    if with_host and not (shutil.which("perf") and shutil.which("cc")):
        sys.exit("counts: needs perf and a C compiler; try --model-only")
    table = new_table(
        f"objects allocated for {AREAS - FEWER} areas", "shape|>processes|>anon_vma|>host|>anon_vma_chain|>host|"
    )
    same = True
    with tempfile.TemporaryDirectory() as folder:
        program, data = Path(folder) / "forkshapes", Path(folder) / "perf.data"
        if with_host:
            subprocess.run(["cc", "-O1", "-static", "-o", str(program), str(SOURCE)], check=True)
        for shape, nr in CASES:
            more, fewer = model(shape, AREAS, nr), model(shape, FEWER, nr)
            ours = Counts(more.anon_vmas - fewer.anon_vmas, more.chains - fewer.chains)
            theirs: tuple[object, object] = ("-", "-")
            verdict = ""
            if with_host:
                more, fewer = host(program, data, shape, AREAS, nr), host(program, data, shape, FEWER, nr)
                theirs = Counts(more.anon_vmas - fewer.anon_vmas, more.chains - fewer.chains)
                verdict = "same" if theirs == ours else "DIFFERENT"
                same &= theirs == ours
            processes = nr + (shape == "flat")
            table.add_row(shape, f"{processes}", f"{ours[0]}", f"{theirs[0]}", f"{ours[1]}", f"{theirs[1]}", verdict)
    console().print(table)
    sys.exit(not same)


if __name__ == "__main__":
    main()
