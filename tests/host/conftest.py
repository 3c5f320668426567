"""What tests of the host share: a family of processes whose memory is known, and the reasons to skip."""

import errno
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rmaplab.host import pagemap
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.kernel_walk import KernelWalk

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))


class Zoo(NamedTuple):
    """pids of A and B; the truth: each page's label with all its (pid, address), sorted; kinds that are missing here, and why."""

    pids: dict[str, int]
    pages: dict[str, list[tuple[int, int]]]
    missing: dict[str, str]

    def need(self, kind: str) -> None:
        """Skips where the kernel does not offer this kind of memory; where we may not have it, fails if everything is required."""
        if why := self.missing.get(kind):
            assert not (REQUIRE_ALL and int(why.split()[0]) in (errno.EPERM, errno.EACCES)), f"{kind}: {why}"
            pytest.skip(f"no {kind} memory here: {why}")


class Family(NamedTuple):
    """pids by name (A, B, C, D); the truth: each page's label with all its (pid, address), sorted; the file that is mapped."""

    pids: dict[str, int]
    pages: dict[str, list[tuple[int, int]]]
    file: Path


@pytest.fixture(scope="session")
def pfns() -> None:
    """Skips, or fails where everything is required, without the right to see PFNs."""
    if not pagemap.can_see_pfns() and not REQUIRE_ALL:
        pytest.skip("page frame numbers are hidden: needs CAP_SYS_ADMIN")


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """fork_tree.py, running: private, shared, file-backed, moved, copied and huge memory over A, B, C and D."""
    file = tmp_path_factory.mktemp("tree") / "file"
    file.write_bytes(bytes(8 * 4096))
    program = [sys.executable, "-E", "-S", str(Path(__file__).with_name("fork_tree.py")), str(file)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as root:
        assert root.stdout is not None
        reports = json.loads(root.stdout.readline())
        pages = defaultdict(list)
        for _, pid, table in reports:
            for address, label in table:
                pages[label].append((pid, address))
        yield Family({name: pid for name, pid, _ in reports}, {k: sorted(v) for k, v in pages.items()}, file)
        root.kill()


@pytest.fixture(scope="module")
def zoo(pfns: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    """zoo.py, running: a page of every kind over A and B. It changes settings of the machine, and undoes them when this ends."""
    if os.getuid() and not REQUIRE_ALL:
        pytest.skip("a zoo of memory takes root: it changes nr_hugepages, KSM and swap for a while")
    program = [sys.executable, "-E", "-S", "-m", "tests.host.zoo", str(tmp_path_factory.mktemp("zoo"))]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(program, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        reports = json.loads(keeper.stdout.readline())
        pages = defaultdict(list)
        for _, pid, table, _ in reports:
            for address, label in table:
                pages[label].append((pid, address))
        pids = {name: pid for name, pid, *_ in reports}
        missing = {kind: why for *_, here in reports for kind, why in here.items()}
        if "ksm" not in missing:
            wait_until_merged(pages["ksm"])
        yield Zoo(pids, {label: sorted(mappers) for label, mappers in pages.items()}, missing)
        keeper.communicate()  # its stdin ends, and so does it when everything is undone
        assert keeper.returncode == 0


def wait_until_merged(entries: list[tuple[int, int]]) -> None:
    """Ksmd comes by when it likes: until it has, these are several page frames."""
    give_up = time.monotonic() + 120
    while len({zoo_entry(*entry) for entry in entries}) > 1:
        assert time.monotonic() < give_up, "ksmd has not merged equal pages"
        time.sleep(0.05)


def zoo_entry(pid: int, address: int) -> int:
    """The word of a page in pagemap, by hand."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(address // 4096 * 8)
        return int.from_bytes(pagemap.read(8), sys.byteorder)


@pytest.fixture(scope="session")
def walk() -> Iterator[KernelWalk]:
    """The BPF programs. Skips, or fails where everything is required, where BPF is not to be had."""
    try:
        loaded = KernelWalk()
    except BpfUnavailable as error:
        if REQUIRE_ALL:
            raise
        pytest.skip(str(error))
    with loaded:
        yield loaded
